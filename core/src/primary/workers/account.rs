//! The user and the group that a worker's program is to run as.

use std::ffi::CString;

use nix::unistd::{Gid, Group, Uid, User};

use crate::error::{Context, Error, Result};
use crate::sys::credentials::Credentials;

pub(super) fn is_another_user(credentials: &Credentials) -> bool {
    credentials.user != nix::unistd::geteuid().as_raw()
}

/// What a user and a group are in numbers, and the user's account if there is one.
pub(super) fn credentials(user: Option<&str>, group: Option<&str>) -> Result<Option<(Credentials, Option<User>)>> {
    if user.is_none() && group.is_none() {
        return Ok(None);
    }
    let known = match user {
        None => None,
        Some(name) => match name.parse::<u32>() {
            Ok(number) => User::from_uid(Uid::from_raw(number)).context("looking the user up")?,
            Err(_) => {
                let found = User::from_name(name).context("looking the user up")?;
                Some(found.ok_or_else(|| Error::invalid(format!("there is no user \"{name}\"")))?)
            }
        },
    };
    let uid = match (&known, user) {
        (Some(known), _) => known.uid.as_raw(),
        (None, Some(number)) => number.parse().map_err(|_| Error::invalid(format!("there is no user \"{number}\"")))?,
        (None, None) => Uid::effective().as_raw(),
    };
    let gid = match group {
        Some(name) => match name.parse::<u32>() {
            Ok(number) => number,
            Err(_) => {
                let found = Group::from_name(name).context("looking the group up")?;
                found.ok_or_else(|| Error::invalid(format!("there is no group \"{name}\"")))?.gid.as_raw()
            }
        },
        None => known.as_ref().map(|known| known.gid.as_raw()).ok_or_else(|| {
            Error::invalid("the user has a number but no entry in the user database; give a group as well")
        })?,
    };
    let mut groups: Vec<u32> = match &known {
        Some(known) if group.is_none() => {
            let name = CString::new(known.name.as_str()).unwrap_or_default();
            let groups =
                nix::unistd::getgrouplist(&name, Gid::from_raw(gid)).context("looking the user's groups up")?;
            groups.iter().map(|group| group.as_raw()).collect()
        }
        _ => vec![gid],
    };
    groups.sort_unstable();
    Ok(Some((Credentials { user: uid, group: gid, groups }, known)))
}
