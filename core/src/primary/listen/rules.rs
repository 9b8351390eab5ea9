//! What the settings allow workers to listen on, made ready to be asked.

use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;

use crate::address::{Address, Host};
use crate::allow::{self, Asked, At, Declared, Hosts, ListenRule, Rule, Sockets};
use crate::bind;
use crate::error::{Context, Error, Result};
use crate::settings::Settings;
use crate::sys::sockaddr::scope_number;
use crate::sys::unix_path::{self, Place};

/// Of what a worker wrote so many characters are repeated.
const SHOWN_MAX: usize = 120;

/// The rules of `Settings::listen_allow`, ready to be asked. A directory is held open, so that it stays the one that was declared whatever happens to the
/// path that leads there.
pub struct Permits(Vec<(Rule, Option<OwnedFd>)>);

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

    /// What settings declare; `None` as there.
    pub(crate) fn of(settings: &Settings) -> Result<Option<Self>> {
        settings.listen_allow.as_deref().map(Self::new).transpose()
    }

    /// What `after` declares, where `before` declared something else. `None`: it did not, and nothing is looked up.
    pub fn changed(before: &Settings, after: &Settings) -> Result<Option<Option<Self>>> {
        if before.listen_allow == after.listen_allow { Ok(None) } else { Self::of(after).map(Some) }
    }

    pub(super) fn permit(&self, address: &Address) -> Result<(Address, Option<Place>)> {
        let asked = canonical(address)?;
        for (rule, directory) in &self.0 {
            let Some(rest) = rule.covers(&asked) else { continue };
            return match (&asked, directory) {
                (Asked::Unix { directory: named, name }, Some(held)) => below(held, rest, named, name),
                _ => Ok((address.clone(), None)),
            };
        }
        Err(refusal(format!(
            "\"{}\" is none of the addresses that the primary has declared for its workers (listen_allow)",
            shown(address)
        )))
    }
}

/// A socket below a directory that is held.
fn below(held: &OwnedFd, rest: &str, directory: &str, name: &str) -> Result<(Address, Option<Place>)> {
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
    Ok((address, Some(place)))
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

pub(super) fn refusal(sentence: String) -> Error {
    Error::new(-libc::EACCES, sentence)
}

/// What a worker wrote, fit for a log.
pub(super) fn shown(address: &Address) -> String {
    let text = address.to_string();
    let mut shown: String = text.chars().take(SHOWN_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN_MAX).is_some() {
        shown.push_str("...");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_worker_wrote_is_shown_without_control_characters_and_cut() {
        let nasty = Address::UnixAbstract(format!("\u{1b}[2J\n{}", "x".repeat(500)));
        let text = shown(&nasty);
        assert!(text.starts_with("unix:@\\u{1b}[2J\\nxxx") && text.ends_with("x..."), "{text}");
        assert!(text.len() < SHOWN_MAX * 2);
    }
}
