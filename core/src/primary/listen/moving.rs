//! A socket file whose name is gone. Many programs remove the file of a dead server before they listen, and their own when they end; as
//! workers they remove the one that others listen on. With the next grant, and when a worker has ended, clients are seen to again.

use std::path::Path;
use std::time::Instant;

use nix::errno::Errno;

use super::addresses::Addresses;
use crate::address::Address;
use crate::bind;
use crate::error::{Context, Error, Result};
use crate::handle::Handle;
use crate::primary::ground::Ground;
use crate::sys::poll::Poll;
use crate::sys::unix_path::Place;

const ADVICE: &str = "the primary removes the file, and replaces one that a dead server has left, so a worker need not";

impl Addresses {
    /// Makes the socket file of an open address anew if it is gone. Where that cannot be, the program is told that nobody can connect.
    /// `place`: where exactly, for a path that was declared.
    pub(crate) fn find_again(&mut self, id: u32, place: Option<Place>, ground: &mut Ground) {
        let Some(handle) = self.by_id.get_mut(&id) else { return };
        let Ok(Address::UnixPath(path)) = Address::parse(&handle.address) else { return };
        let moved = match place.map_or_else(|| Place::at(Path::new(&path)), Ok) {
            Ok(place) if !handle.is_lost(&place) => return,
            Ok(place) => move_to(handle, Address::UnixPath(path), place, ground.poll),
            Err(errno @ (Errno::ENOENT | Errno::ENOTDIR)) => Err(Error::os("its directory", errno)),
            // What that means for clients is not known.
            Err(_) => return,
        };
        let (address, tell) = (handle.address.clone(), handle.may_warn(Instant::now()));
        match moved {
            Ok(()) if tell => {
                ground.news.notice(format!("{address}: the socket file was gone and was made anew; {ADVICE}"));
            }
            Err(error) if tell => ground.news.warn(
                None,
                format!(
                    "{address}: nobody can connect, because the socket file was removed ({}); {ADVICE}",
                    error.sentence()
                ),
            ),
            _ => {}
        }
        // Who had come to the old one waits to be handed out, and the poll is to tell of the new one.
        self.mark(id);
        ground.clock.wake();
    }

    /// The same for every address that somebody serves.
    pub(crate) fn find_all_again(&mut self, ground: &mut Ground) {
        let served = self.by_id.values().filter(|handle| handle.has_file() && !handle.is_unattended());
        for id in served.map(|handle| handle.id).collect::<Vec<u32>>() {
            let address = self.by_id.get(&id).and_then(|handle| Address::parse(&handle.address).ok());
            match (&self.permits, address) {
                (Some(permits), Some(address)) => {
                    // What is not declared any more stays as it is.
                    if let Ok((_, place)) = permits.permit(&address) {
                        self.find_again(id, place, ground);
                    }
                }
                _ => self.find_again(id, None, ground),
            }
        }
    }
}

fn move_to(handle: &mut Handle, address: Address, place: Place, poll: &Poll) -> Result<()> {
    let Some((flags, shape)) = handle.made_with() else {
        return Err(Error::new(-libc::EOPNOTSUPP, "the workers have the old socket, and cannot be given another"));
    };
    let bound = bind::open(&address, Some(place), shape, flags).map_err(bind::unless_locked)?;
    handle.move_to(bound, poll).context("accepting from it")
}
