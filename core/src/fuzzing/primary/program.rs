//! What the primary's own program asks for.

use std::os::fd::AsRawFd;
use std::time::Duration;

use super::{ADDRESSES, Rig};
use crate::bind::ListenFlags;
use crate::fuzzing::Choices;
use crate::primary::Wanted;

impl Rig {
    pub(super) fn program(&mut self, what: u8, who: usize, choices: &mut Choices) {
        let detail = choices.byte();
        let id = self.puppets.get(who).map_or(u32::from(detail), |puppet| puppet.id);
        let address = ADDRESSES[usize::from(detail) % ADDRESSES.len()];
        let wanted = Wanted {
            address,
            index: 1 + u32::from(detail >> 6),
            backlog: 0,
            flags: ListenFlags::default(),
            pad_abstract: detail & 8 != 0,
        };
        match what {
            20 => self.replace(who, detail),
            21 => {
                if self.primary.disconnect(id).is_ok()
                    && let Some(expected) = self.expected.get_mut(&id)
                {
                    expected.leaving = true;
                }
            }
            22 => drop(self.primary.send(id, choices.take(usize::from(detail)))),
            23 => {
                if let Ok(granted) = self.primary.grant(id, wanted) {
                    self.handles.push(granted.handle);
                }
            }
            24 => {
                if let Ok(relayed) = self.primary.relay(id, wanted) {
                    self.handles.push(relayed.granted.handle);
                    self.names.push(relayed.granted.name);
                    self.relayed.push(relayed.mailbox);
                }
            }
            25 => {
                if let (Some(handle), Some(connection)) = (self.handles.last(), self.taken.pop()) {
                    let _ = self.primary.put_back(*handle, connection.as_raw_fd());
                }
            }
            26 => {
                let own = self.primary.shares_of(id);
                if let Some((listener, _)) = own.get(usize::from(detail) % own.len().max(1)) {
                    self.primary.close_share(id, *listener);
                    let expected = self.expected.entry(id).or_default();
                    expected.shares.remove(listener);
                    expected.withdrawn.insert(*listener);
                }
            }
            27 => {
                let (_, _) = (self.primary.worker_info(id).is_ok(), self.primary.handles().len());
                let _ = self.primary.kill(id, 0);
            }
            _ => self.program_ends(id, detail),
        }
    }

    fn program_ends(&mut self, id: u32, detail: u8) {
        match detail % 8 {
            0 => {
                self.primary.give_up_all();
                self.gave_up = true;
            }
            1 => {
                self.primary.stop(Duration::from_secs(9));
                self.expected.values_mut().for_each(|expected| expected.leaving = true);
                self.gave_up = true;
            }
            2 => self.primary.finish(),
            3 => {
                self.primary.retire(id);
                if let Some(expected) = self.expected.get_mut(&id) {
                    expected.leaving = true;
                }
            }
            4 => {
                let mut settings = self.primary.settings().clone();
                settings.window = 1 + u32::from(detail >> 4);
                let _ = self.primary.configure(settings);
            }
            _ => {
                self.turn();
            }
        }
    }

    /// A worker's process ends, and perhaps another takes its place.
    fn replace(&mut self, who: usize, detail: u8) {
        if self.puppets.is_empty() {
            return;
        }
        let puppet = self.puppets.remove(who);
        let id = puppet.id;
        // The program may hear of it before or after its descriptors are closed.
        let (early, late) = if detail & 4 == 0 { (Some(puppet), None) } else { (None, Some(puppet)) };
        drop(early);
        self.primary.enrolled_ended(id, detail & 2 == 0);
        drop(late);
        self.expected.remove(&id);
        assert!(!self.primary.speaks_with(id) && self.primary.worker_info(id).is_err());
        if detail & 1 == 0 {
            self.enroll();
        }
    }
}
