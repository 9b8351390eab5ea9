//! What a worker may listen on: the rules of the settings, made ready, and the answer for each address that is asked for.

use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::Primary;
use crate::address::{Address, Host};
use crate::allow::{self, Asked, At, Declared, Hosts, ListenRule, Rule, Sockets};
use crate::bind;
use crate::error::{Context, Error, Result};
use crate::sys::sockaddr::scope_number;
use crate::sys::unix_path::{self, Place};

/// Addresses that may be open at the asking of confined workers where the settings name no number.
const CONFINED_MAX: u32 = 64;
/// Of one worker's refusals one is told in this time, with the number of the others.
const TELL_AGAIN: Duration = Duration::from_secs(1);
/// Of what a worker wrote so many characters are repeated.
const SHOWN_MAX: usize = 120;

/// The rules of `Settings::listen_allow`, ready to be asked. A directory is held open, so that it stays the one that was declared whatever happens to the
/// path that leads there.
pub struct Permits(Vec<(Rule, Option<OwnedFd>)>);

/// An address as it is to be opened.
pub(crate) struct Permit {
    pub(crate) address: Address,
    /// For a socket file: exactly where.
    pub(crate) place: Option<Place>,
}

/// When a worker's refusals were last told.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    told: Option<Instant>,
    untold: u32,
    all: u64,
}

impl Refusals {
    /// All that were noted.
    pub(super) fn count(&self) -> u64 {
        self.all
    }

    /// Notes one; how many were not told before it, if it is to be told.
    fn note(&mut self, now: Instant) -> Option<u32> {
        self.all += 1;
        if self.told.is_some_and(|told| now.saturating_duration_since(told) < TELL_AGAIN) {
            self.untold = self.untold.saturating_add(1);
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

impl Permits {
    /// Looks names up, which may wait for a name server, and opens directories.
    pub fn new(rules: &[ListenRule]) -> Result<Self> {
        let mut ready = Vec::new();
        for ListenRule(declared) in rules {
            match declared {
                Declared::Inet { hosts, ports, datagram } => {
                    let rule = |at| (Rule::Inet { at, ports: *ports, datagram: *datagram }, None);
                    match hosts {
                        Hosts::Any => ready.push(rule(At::Any)),
                        Hosts::One(Host::Name(name)) => {
                            ready.extend(bind::addresses_of(name)?.into_iter().map(|ip| rule(At::one(ip, 0))));
                        }
                        Hosts::One(host) => ready.push(rule(numeric(host).context("the interface in a listen rule")?)),
                    }
                }
                Declared::Unix(sockets) => ready.push(held(sockets)?),
                Declared::Abstract(name) => ready.push((Rule::Abstract(name.clone()), None)),
                Declared::Inherited(number) => ready.push((Rule::Inherited(*number), None)),
            }
        }
        Ok(Self(ready))
    }

    fn permit(&self, address: &Address) -> Result<Permit> {
        let asked = canonical(address)?;
        for (rule, directory) in &self.0 {
            let Some(rest) = rule.covers(&asked) else { continue };
            return match (&asked, directory) {
                (Asked::Unix { directory: named, name }, Some(held)) => below(held, rest, named, name),
                _ => Ok(Permit { address: address.clone(), place: None }),
            };
        }
        Err(refusal(format!(
            "\"{}\" is none of the addresses that the primary has declared for its workers (listen_allow)",
            shown(address)
        )))
    }
}

/// A socket below a directory that is held.
fn below(held: &OwnedFd, rest: &str, directory: &str, name: &str) -> Result<Permit> {
    let path = format!("{directory}/{name}");
    let address = Address::UnixPath(path.clone());
    let place = match Place::below(held.as_fd(), rest, name, &path) {
        Err(Errno::ENOTDIR | Errno::ELOOP | Errno::EXDEV) => {
            return Err(refusal(format!(
                "\"{}\" is reached through a link, which is not followed below a directory that was declared, or through what is no \
                 directory",
                shown(&address)
            )));
        }
        outcome => outcome.context(format_args!("opening the directory of {}", shown(&address)))?,
    };
    if !place.is_safe().context("looking at a directory")? {
        return Err(refusal(format!(
            "the directory of \"{}\" can be changed by other users than the primary's and root; let one of the two own it, and \
             nobody else write in it",
            shown(&address)
        )));
    }
    Ok(Permit { address, place: Some(place) })
}

fn held(sockets: &Sockets) -> Result<(Rule, Option<OwnedFd>)> {
    let path = Path::new(if sockets.directory.is_empty() { "/" } else { &sockets.directory });
    let failed = || format!("the directory \"{}\" of a listen rule", path.display());
    let directory = unix_path::open_directory(path).context(failed())?;
    let real = path.canonicalize().ok().and_then(|real| real.into_os_string().into_string().ok());
    // The root's own path is its slash.
    let real = real.map(|real| real.trim_end_matches('/').to_owned()).filter(|real| *real != sockets.directory);
    Ok((Rule::Unix { sockets: sockets.clone(), real }, Some(directory)))
}

fn numeric(host: &Host) -> crate::sys::Sys<At> {
    Ok(match host {
        // A name is resolved by whoever asks.
        Host::Any | Host::Name(_) => At::All,
        Host::V4(ip) => At::one(IpAddr::V4(*ip), 0),
        Host::V6 { ip, scope } => At::one(IpAddr::V6(*ip), scope.as_deref().map_or(Ok(0), scope_number)?),
    })
}

fn canonical(address: &Address) -> Result<Asked> {
    Ok(match address {
        Address::Inet { host: Host::Name(_), .. } => {
            return Err(Error::invalid("the name was not resolved; the worker resolves names before it asks"));
        }
        Address::Inet { host, port, datagram } => {
            let at = numeric(host).context(format_args!("the interface in \"{}\"", shown(address)))?;
            Asked::Inet { at, port: *port, datagram: *datagram }
        }
        Address::UnixPath(path) => match allow::clean(path) {
            Ok((directory, Some(name))) => Asked::Unix { directory, name },
            Ok((_, None)) => return Err(refusal(format!("\"{}\" names a directory", shown(address)))),
            Err(fault) => return Err(refusal(format!("\"{}\": {}", shown(address), fault.text()))),
        },
        // An older libuv fills a name up.
        Address::UnixAbstract(name) => Asked::Abstract(name.trim_end_matches('\0').to_owned()),
        Address::Inherited(number) => Asked::Inherited(*number),
    })
}

fn refusal(sentence: String) -> Error {
    Error::new(-libc::EACCES, sentence)
}

/// What a worker wrote, fit for a log.
fn shown(address: &Address) -> String {
    let text = address.to_string();
    let mut shown: String = text.chars().take(SHOWN_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN_MAX).is_some() {
        shown.push_str("...");
    }
    shown
}

impl Primary {
    /// The rules of new settings, where they are others than before.
    pub(super) fn permits_for(&self, rules: Option<&[ListenRule]>) -> Result<Option<Option<Permits>>> {
        if rules == self.settings.listen_allow.as_deref() {
            return Ok(None);
        }
        rules.map(Permits::new).transpose().map(Some)
    }

    /// Whether a worker may have an address, and what exactly is to be opened then. A refusal is told to the program.
    pub(super) fn permit(&mut self, worker: u32, address: &Address, index: u32) -> Result<Permit> {
        let confined = self.registry.get(worker).is_some_and(|entry| entry.confined);
        let outcome = match &self.permits {
            Some(permits) => permits.permit(address),
            None if !confined => Ok(Permit { address: address.clone(), place: None }),
            None => Err(refusal(format!(
                "this worker runs as another user than its primary, which has not declared what such workers may listen on; \
                 \"{}\" has to stand in listen_allow of the primary's settings",
                shown(address)
            ))),
        };
        let most = match self.settings.listen_max {
            0 if confined => CONFINED_MAX,
            0 => u32::MAX,
            most => most,
        };
        let outcome = outcome.and_then(|permit| {
            if !self.handles.has(&permit.address, index) && self.handles.count() >= most as usize {
                return Err(Error::new(
                    -libc::EMFILE,
                    format!("{most} addresses are open for the workers, which is as many as may be (listen_max)"),
                ));
            }
            Ok(permit)
        });
        if let Err(error) = &outcome
            && let Some(entry) = self.registry.get_mut(worker)
            && let Some(untold) = entry.refusals.note(Instant::now())
        {
            self.news.may_not_listen(entry.reference(), error, untold);
            // The asker may be another thread than the one that takes the events.
            self.clock.wake();
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_refusals_few_are_told_and_all_are_counted() {
        let mut refusals = Refusals::default();
        let start = Instant::now();
        let told: Vec<u32> = (0..3000).filter_map(|ms| refusals.note(start + Duration::from_millis(ms))).collect();
        assert_eq!(told, [0, 999, 999]);
    }

    #[test]
    fn what_a_worker_wrote_is_shown_without_control_characters_and_cut() {
        let nasty = Address::UnixAbstract(format!("\u{1b}[2J\n{}", "x".repeat(500)));
        let text = shown(&nasty);
        assert!(text.starts_with("unix:@\\u{1b}[2J\\nxxx") && text.ends_with("x..."), "{text}");
        assert!(text.len() < SHOWN_MAX * 2);
    }
}
