//! A socket file whose name is gone. Many programs remove the file of a dead server before they listen, and as workers the live one,
//! too: the next grant sees to it that clients can come.

use std::path::Path;
use std::time::Instant;

use super::addresses::Addresses;
use super::joining::Request;
use super::permits::Permit;
use crate::address::Address;
use crate::bind;
use crate::error::{Context, Error, Result};
use crate::handle::Handle;
use crate::primary::ground::Ground;
use crate::sys::poll::Poll;
use crate::sys::unix_path::Place;

const ADVICE: &str = "the file of a dead server is replaced anyway, so a worker need not remove it before it listens";

impl Addresses {
    /// Makes the socket file of an open address anew if it is gone. Where that cannot be, the program is told that nobody can connect.
    pub(crate) fn find_again(&mut self, id: u32, permit: Permit, request: &Request, ground: &mut Ground) {
        let Permit { address, place, .. } = permit;
        let (Address::UnixPath(path), Some(handle)) = (&address, self.by_id.get_mut(&id)) else { return };
        let moved = match place.map_or_else(|| Place::at(Path::new(path)), Ok) {
            Ok(place) if !handle.is_lost(&place) => return,
            Ok(place) => move_to(handle, &address, place, request, ground.poll),
            Err(errno) => Err(Error::os("its directory", errno)),
        };
        if !handle.may_warn(Instant::now()) {
            return;
        }
        match moved {
            Ok(()) => ground.news.notice(format!("{address}: the socket file was gone and was made anew; {ADVICE}")),
            Err(error) => ground.news.warn(
                None,
                format!(
                    "{address}: nobody can connect, because the socket file was removed ({}); {ADVICE}",
                    error.sentence()
                ),
            ),
        }
        // The asker may be another thread than the one that takes the events.
        ground.clock.wake();
    }
}

fn move_to(handle: &mut Handle, address: &Address, place: Place, request: &Request, poll: &Poll) -> Result<()> {
    if !handle.can_move() {
        return Err(Error::new(-libc::EOPNOTSUPP, "the workers have the old socket, and cannot be given another"));
    }
    let bound = bind::open(address, Some(place), &request.shape, request.flags).map_err(bind::unless_locked)?;
    handle.move_to(bound, poll).context("accepting from it")
}
