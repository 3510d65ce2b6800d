//! How much the kernel does by itself.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;

/// How long an answer holds where others may change the tree.
const SHORTLY: Duration = Duration::from_secs(1);

/// What the mount is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Policy {
    pub(super) caching: Caching,
    pub(super) io: Io,
    pub(super) writeback: bool,
}

/// How long the kernel believes what it was told of names and attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caching {
    /// Not at all.
    None,
    /// As long as others who change the tree have to expect.
    Auto,
    /// Nobody else changes the tree, or not so soon.
    For(Duration),
}

impl Caching {
    /// For what exists.
    pub(super) fn of_files(self) -> Duration {
        match self {
            Caching::None => Duration::ZERO,
            Caching::Auto => SHORTLY,
            Caching::For(time) => time,
        }
    }

    /// For names that do not exist. A file that somebody else makes is expected to be there when they
    /// say so.
    pub(super) fn of_missing(self) -> Option<Duration> {
        match self {
            Caching::None | Caching::Auto => None,
            Caching::For(time) => Some(time),
        }
    }

    /// Whether contents stay in memory when a file is opened again. They go in any case when its
    /// size or the time of its last modification is another.
    pub(super) fn keeps_contents(self) -> bool {
        matches!(self, Caching::For(_))
    }
}

impl FromStr for Caching {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Caching, &'static str> {
        match text {
            "none" => Ok(Caching::None),
            "auto" => Ok(Caching::Auto),
            seconds => {
                let seconds = seconds.parse().ok();
                let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
                // More is for ever, and the kernel could not count it.
                let time = time.filter(|time| *time <= Duration::from_secs(u32::MAX.into()));
                time.map(Caching::For)
                    .ok_or("it is none of: none, auto, a number of seconds")
            }
        }
    }
}

impl fmt::Display for Caching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Caching::None => f.write_str("none"),
            Caching::Auto => f.write_str("auto"),
            Caching::For(time) => write!(f, "{}", time.as_secs_f64()),
        }
    }
}

/// Who reads and writes files of which the server donates descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Io {
    /// The kernel, on the descriptor; where it does not offer that, as `donated`
    Passthrough,
    /// This program, on the descriptor
    Donated,
    /// The server
    Server,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caching_is_what_is_typed() {
        for text in ["none", "auto", "0", "60", "0.25"] {
            let caching: Caching = text.parse().unwrap();
            assert_eq!(caching.to_string(), text);
        }
        for wrong in ["", "ever", "-1", "1s", "inf", "NaN", "1e300", "5000000000"] {
            assert!(wrong.parse::<Caching>().is_err(), "{wrong}");
        }
    }
}
