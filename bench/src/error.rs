//! Why something could not be measured.

use std::fmt;

#[derive(Debug, Clone)]
pub enum Error {
    /// This contender cannot take part on this machine; the others can.
    Unavailable(String),
    /// Something is wrong, and what would be measured means nothing.
    Failed(String),
}

pub type Result<T> = std::result::Result<T, Error>;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable(text) | Self::Failed(text) => f.write_str(text),
        }
    }
}

/// For `map_err`: what was tried, and why it failed.
pub fn failed<E: fmt::Display>(what: &str) -> impl FnOnce(E) -> Error {
    let what = what.to_owned();
    move |error| Error::Failed(format!("{what}: {error}"))
}

pub fn fail<T>(text: impl Into<String>) -> Result<T> {
    Err(Error::Failed(text.into()))
}
