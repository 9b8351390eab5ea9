//! The build that a run is compared with (--against): where its library and its addon are, and whether it can be compared.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Error, Result, fail, failed};
use crate::machine;
use crate::workshop::Workshop;

/// How many folders above OLD may have its node-addon: OLD may be target/release of a checkout, or target/HOST/release.
const ABOVE: usize = 4;

/// Gives the old build's workshop, and a line that says what it is.
pub fn prepare(given: &Path, new: &Workshop) -> Result<(Workshop, String)> {
    let wrong = |error: Error| Error::Failed(format!("--against: {error}"));
    let folder = given.canonicalize().map_err(failed(&given.display().to_string())).map_err(wrong)?;
    let ours = new.library.join("libcluster.so");
    let file = library_in(&folder).map_err(wrong)?;
    let soname = soname(&file).map_err(wrong)?;
    let wanted = self::soname(&ours).map_err(wrong)?;
    if soname != wanted {
        return wrong_build(
            &file,
            &format!("is {soname} and this build is {wanted}: a program runs with one of them only"),
        );
    }
    let out = new.out.join("old");
    // The linker wants the one name and the loader the other; a build may have only one of them.
    fs::create_dir_all(&out).map_err(failed("the folder for what is built"))?;
    for name in ["libcluster.so", &soname] {
        let link = out.join(name);
        let _ = fs::remove_file(&link);
        symlink(&file, &link).map_err(failed(name))?;
    }
    let above = || folder.ancestors().take(ABOVE).map(|folder| folder.join("node-addon"));
    let addon = above().find(|folder| folder.is_dir()).unwrap_or_else(|| folder.join("node-addon"));
    let old = new.with_build(out.clone(), addon, out);
    new.program("cluster")?;
    if let Err(error) = old.program("cluster") {
        return wrong_build(&file, &why_not_linked(&error.to_string()));
    }
    let same = |one: &Path, other: &Path| fs::read(one).ok().is_some_and(|bytes| fs::read(other).ok() == Some(bytes));
    let mut line = format!("against: a build of {}", machine::commit(&folder));
    if same(&file, &ours) {
        line.push_str("; the library is the same, so differences are noise");
    }
    if let (Ok(one), Ok(other)) = (old.node_addon_file(), new.node_addon_file())
        && same(&one, &other)
    {
        line.push_str("; the addon is the same, so differences are noise");
    }
    Ok((old, line))
}

fn wrong_build<T>(file: &Path, why: &str) -> Result<T> {
    fail(format!("--against: {} {why}", file.display()))
}

/// In one sentence, if the linker says what is missing.
fn why_not_linked(said: &str) -> String {
    let missing = said.lines().filter_map(|line| line.split_once("undefined reference to `")?.1.split_once('\''));
    let names: BTreeSet<&str> = missing.map(|(name, _)| name).collect();
    match Vec::from_iter(names).join(", ") {
        names if names.is_empty() => format!("does not go with bench/contenders/cluster.c: {said}"),
        names => format!("lacks what bench/contenders/cluster.c calls: {names}"),
    }
}

/// In a folder itself, or in that of a checkout.
fn library_in(folder: &Path) -> Result<PathBuf> {
    for folder in [folder, &folder.join("target/release")] {
        let mut files: Vec<PathBuf> =
            fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        files.retain(|file| {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            name == "libcluster.so" || name.starts_with("libcluster.so.")
        });
        files.sort();
        if let Some(file) = files.first() {
            return file.canonicalize().map_err(failed(&file.display().to_string()));
        }
    }
    fail(format!("no libcluster.so in {0} or {0}/target/release (make build makes it there)", folder.display()))
}

/// The name that programs know a library by, which changes with its ABI.
fn soname(file: &Path) -> Result<String> {
    let output = Command::new("readelf").arg("-d").arg(file).output().map_err(failed("readelf"))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = said.lines().find(|line| line.contains("(SONAME)"));
    match line.and_then(|line| line.split_once('[')?.1.split_once(']')) {
        Some((name, _)) => Ok(name.to_owned()),
        None => fail(format!("{} is no library with a SONAME", file.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_library_lacks_is_said_in_one_sentence() {
        let said = "cluster.c does not compile:\nld: a.c:46: undefined reference to `cl_b'\na.c:47: undefined reference to `cl_a'\n\
                    a.c:48: undefined reference to `cl_b'\ncollect2: error";
        assert_eq!(why_not_linked(said), "lacks what bench/contenders/cluster.c calls: cl_a, cl_b");
        assert!(why_not_linked("no compiler").ends_with("cluster.c: no compiler"));
    }
}
