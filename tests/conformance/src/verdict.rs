//! How a case ends before its end.

use core::fmt;
use std::io;
use std::panic::Location;

use lisafs::Errno;
use lisafs::client::Error;
use lisafs::wire::schema::SchemaError;
use lisafs::wire::{Malformed, Overflow};

/// What a case comes to.
pub type Verdict = Result<(), Stop>;

/// Why a case did not come to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The server did something else than it must. The text begins with the place in the case.
    Failed(String),
    /// The question cannot be asked of this server.
    Skipped(String),
}

impl Stop {
    /// A failure at the place of the caller.
    #[must_use]
    #[track_caller]
    pub fn failed(why: impl fmt::Display) -> Stop {
        let place = Location::caller();
        let file = place.file().rsplit('/').next().unwrap_or_default();
        Stop::Failed(format!("{file}:{}: {why}", place.line()))
    }

    /// A question that cannot be asked, and why.
    #[must_use]
    pub fn skipped(why: impl Into<String>) -> Stop {
        Stop::Skipped(why.into())
    }
}

macro_rules! failures {
    ($($error:ty)*) => {
        $(
            /// A failure at the place of the `?`.
            impl From<$error> for Stop {
                #[track_caller]
                fn from(error: $error) -> Stop {
                    Stop::failed(format_args!("{error:?}"))
                }
            }
        )*
    };
}

failures! { Error Errno Malformed Overflow SchemaError io::Error nix::Error flipcall::Error }

/// Fails the case unless the server refused with `errno`.
///
/// # Errors
/// Says what the server did instead.
#[track_caller]
pub fn refused<T: fmt::Debug>(result: Result<T, Error>, errno: Errno) -> Verdict {
    match result {
        Err(Error::Remote(got)) if got == errno => Ok(()),
        Err(Error::Remote(got)) => Err(Stop::failed(format_args!("{got:?}, not {errno:?}"))),
        Err(other) => Err(Stop::failed(format_args!("{other:?}, not {errno:?}"))),
        Ok(got) => {
            let mut got = format!("{got:?}");
            if let Some((cut, _)) = got.char_indices().nth(120) {
                got.truncate(cut);
            }
            Err(Stop::failed(format_args!("success ({got}), not {errno:?}")))
        }
    }
}

/// Fails the case, a function that returns a [`Verdict`], unless the condition holds.
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $($why:tt)+) => {
        if !$condition {
            return Err($crate::Stop::failed(format_args!($($why)+)));
        }
    };
}

/// Fails the case, a function that returns a [`Verdict`], unless both are equal.
#[macro_export]
macro_rules! same {
    ($got:expr, $wanted:expr, $($what:tt)+) => {
        match (&$got, &$wanted) {
            (got, wanted) => {
                if *got != *wanted {
                    return Err($crate::Stop::failed(format_args!(
                        "{}: {got:?}, not {wanted:?}",
                        format_args!($($what)+),
                    )));
                }
            }
        }
    };
}

pub(crate) use {ensure, same};
