//! Where the project is, and the programs that contenders need.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::{Error, Result, fail, failed};

pub struct Workshop {
    /// The root of the project.
    pub root: PathBuf,
    /// Where libcluster.so is.
    pub library: PathBuf,
    /// Where the package cluster-rs is.
    addon: PathBuf,
    /// Where programs and configuration files go.
    pub out: PathBuf,
    /// Where the sources of the programs are, below the root.
    sources: &'static str,
    /// What was tried to build, and why it could not be.
    built: RefCell<BTreeMap<&'static str, Result<PathBuf>>>,
}

impl Workshop {
    pub fn new(root: PathBuf, library: PathBuf, out: PathBuf, sources: &'static str) -> Result<Self> {
        if !root.join(sources).is_dir() {
            return fail(format!("{} is not the project's root", root.display()));
        }
        std::fs::create_dir_all(&out).map_err(failed("the folder for what is built"))?;
        // What is built looks for the library where it is, wherever it is started from.
        let library = std::path::absolute(&library).map_err(failed("the library's folder"))?;
        let addon = root.join("node-addon");
        Ok(Self { root, library, addon, out, sources, built: RefCell::default() })
    }

    /// The same programs with another build of the library and of the addon.
    pub fn with_build(&self, library: PathBuf, addon: PathBuf, out: PathBuf) -> Self {
        let (root, sources) = (self.root.clone(), self.sources);
        Self { root, library, addon, out, sources, built: RefCell::default() }
    }

    /// Compiles the program NAME.c, once in a run.
    pub fn program(&self, name: &'static str) -> Result<PathBuf> {
        let known = self.built.borrow().get(name).cloned();
        known.unwrap_or_else(|| {
            let outcome = self.compile(name);
            self.built.borrow_mut().insert(name, outcome.clone());
            outcome
        })
    }

    fn compile(&self, name: &str) -> Result<PathBuf> {
        let program = self.out.join(name);
        let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".into());
        let mut command = Command::new(&compiler);
        command.args(["-O2", "-g", "-Wall", "-Wextra", "-Werror"]);
        command.arg("-I").arg(self.root.join("include"));
        command.arg(self.root.join(self.sources).join(name).with_extension("c")).arg("-o").arg(&program);
        match name {
            "cluster" | "fleet" | "reload" => {
                command.arg("-L").arg(&self.library).arg(format!("-Wl,-rpath,{}", self.library.display()));
                command.arg("-lcluster");
            }
            "uv" => {
                if !has_header(&compiler, "uv.h") {
                    return Err(Error::Unavailable("libuv's header is not installed (package libuv1-dev)".into()));
                }
                command.arg("-luv");
            }
            _ => {}
        }
        let output = command.output().map_err(failed(&compiler))?;
        if !output.status.success() {
            return fail(format!("{name}.c does not compile:\n{}", String::from_utf8_lossy(&output.stderr)));
        }
        Ok(program)
    }

    /// The Node to measure: NODE, or the one on the path.
    pub fn node(&self) -> Result<String> {
        let node = std::env::var("NODE").unwrap_or_else(|_| "node".into());
        match version_of(Command::new(&node).arg("--version")) {
            Some(_) => Ok(node),
            None => Err(Error::Unavailable("no Node is installed".into())),
        }
    }

    pub fn node_addon(&self) -> Result<PathBuf> {
        self.node_addon_file().map(|_| self.addon.clone())
    }

    /// The addon itself, in the package.
    pub fn node_addon_file(&self) -> Result<PathBuf> {
        let files = std::fs::read_dir(&self.addon).into_iter().flatten().flatten().map(|entry| entry.path());
        files.into_iter().find(|file| file.extension().is_some_and(|extension| extension == "node")).ok_or_else(|| {
            Error::Unavailable(format!("the addon in {} is not built (make addon)", self.addon.display()))
        })
    }

    pub fn nginx(&self) -> Result<PathBuf> {
        // Where an ordinary user's path does not lead.
        for folder in ["/usr/sbin", "/usr/local/sbin", "/usr/bin", "/usr/local/bin"] {
            let file = Path::new(folder).join("nginx");
            if file.exists() {
                return Ok(file);
            }
        }
        Err(Error::Unavailable("nginx is not installed (package nginx-light)".into()))
    }
}

fn has_header(compiler: &str, header: &str) -> bool {
    let mut command = Command::new(compiler);
    command.args(["-E", "-xc", "-include", header, "/dev/null"]);
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// The first line that a program prints when it is asked for its version; nginx uses its standard error.
pub fn version_of(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).output().ok().filter(|output| output.status.success())?;
    let said = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&said).lines().next().map(str::to_owned)
}
