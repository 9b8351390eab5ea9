//! Socket options that are set while the address is open.

use super::Handle;
use crate::error::{Error, Result};
use crate::mechanism::OwnSocket;
use crate::options::{self, SocketOption};

impl Handle {
    /// Sets an option on every socket of the address, and on those that are made from here on. An error: nothing has changed. How
    /// many sockets there were.
    pub(crate) fn set_option(&mut self, option: &SocketOption) -> Result<usize> {
        if !self.ours {
            return Err(options::of_another(&self.address));
        }
        let failed = |errno| Error::os(format_args!("setsockopt {} {}", option.called(), self.address), errno);
        let mut count = self.mechanism.set_option(option).map_err(failed)?;
        let own = self
            .members
            .iter()
            .filter_map(|member| member.queue())
            .chain(self.retired.sockets())
            .map(OwnSocket::socket);
        for socket in own {
            // A worker may have made its own one that takes no options any more. The others have theirs all the same.
            let _ = option.set_on(socket);
            count += 1;
        }
        Ok(count)
    }
}
