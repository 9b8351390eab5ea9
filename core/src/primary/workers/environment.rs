//! The environment of a program that runs as another user, where its primary's program gives none. Pure.

use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// What is known of the user.
pub(super) struct Account<'a> {
    pub(super) name: &'a OsStr,
    pub(super) home: &'a OsStr,
    pub(super) shell: &'a OsStr,
}

/// What is kept of this process's own variables, and who the user is. All the rest may change what a program loads, runs or
/// believes, or tell it a secret. `None`: a user who has no account.
pub(super) fn of_another_user(
    own: impl Iterator<Item = (OsString, OsString)>,
    account: Option<Account>,
) -> Vec<CString> {
    let mut kept: Vec<(OsString, OsString)> =
        own.filter(|(name, value)| is_harmless(name.as_bytes(), value.as_bytes())).collect();
    let mut tell = |name: &str, value: &OsStr| kept.push((name.into(), value.to_owned()));
    match account {
        Some(Account { name, home, shell }) => {
            tell("HOME", home);
            tell("USER", name);
            tell("LOGNAME", name);
            tell("SHELL", shell);
        }
        None => tell("HOME", OsStr::new("/")),
    }
    kept.iter()
        .filter_map(|(name, value)| CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).ok())
        .collect()
}

fn is_harmless(name: &[u8], value: &[u8]) -> bool {
    match name {
        b"PATH" => true,
        // A name, never the path of a file that would be read.
        b"LANG" | b"LANGUAGE" | b"TERM" => !value.iter().any(|byte| b"/%".contains(byte)),
        b"TZ" => {
            let zone = value.strip_prefix(b":").unwrap_or(value);
            !zone.starts_with(b"/") && !zone.split(|byte| *byte == b'/').any(|part| part == b"..")
        }
        _ => name.starts_with(b"LC_") && !value.iter().any(|byte| b"/%".contains(byte)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_named_is_kept_and_the_user_is_told_who_he_is() {
        let own = [
            ("PATH", "/bin"),
            ("LANG", "de_DE.UTF-8"),
            ("LC_ALL", "/tmp/locale"),
            ("LC_TIME", "C"),
            ("LCX", "1"),
            ("TZ", ":Europe/Berlin"),
            ("TERM", "../x"),
            ("LD_PRELOAD", "x.so"),
            ("HOME", "/root"),
            ("USER", "root"),
            ("PATHX", "1"),
            ("", "1"),
        ];
        let own = || own.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        let texts =
            |list: Vec<CString>| list.iter().map(|entry| entry.to_str().unwrap().to_owned()).collect::<Vec<_>>();
        let account = Account { name: OsStr::new("web"), home: OsStr::new("/srv"), shell: OsStr::new("/bin/sh") };
        let kept = ["PATH=/bin", "LANG=de_DE.UTF-8", "LC_TIME=C", "TZ=:Europe/Berlin"];
        let told = ["HOME=/srv", "USER=web", "LOGNAME=web", "SHELL=/bin/sh"];
        assert_eq!(texts(of_another_user(own(), Some(account))), [&kept[..], &told[..]].concat());
        assert_eq!(texts(of_another_user(own(), None)), [&kept[..], &["HOME=/"][..]].concat());
    }

    #[test]
    fn a_time_zone_is_no_path_out_of_where_they_are() {
        for zone in ["/etc/passwd", ":/etc/passwd", "../../x", "Europe/../../x"] {
            assert!(!is_harmless(b"TZ", zone.as_bytes()), "{zone}");
        }
        assert!(is_harmless(b"TZ", b"CET-1CEST,M3.5.0,M10.5.0/3"));
    }
}
