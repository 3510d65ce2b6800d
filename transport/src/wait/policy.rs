#![forbid(unsafe_code)]
//! What to do while the peer has the window, as a user says it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The longest spin that can be asked for on a command line.
pub(super) const MAX_SPIN: Duration = Duration::from_secs(1);

/// What an endpoint does while the peer has the window.
///
/// The text forms, for command lines, are `adaptive`, `park` and `spin=USEC`:
///
/// ```
/// use std::time::Duration;
/// use flipcall::WaitPolicy;
///
/// assert_eq!("adaptive".parse(), Ok(WaitPolicy::default()));
/// assert_eq!("park".parse(), Ok(WaitPolicy::Park));
/// assert_eq!("spin=50".parse(), Ok(WaitPolicy::Spin(Duration::from_micros(50))));
/// assert_eq!(WaitPolicy::Spin(Duration::from_micros(50)).to_string(), "spin=50");
/// assert!("spin=-1".parse::<WaitPolicy>().is_err());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitPolicy {
    /// Poll as long as experience says that it pays, then sleep. An endpoint whose turns come soon
    /// polls for up to 50 µs, a client for up to 100, and longer after much work; one whose turns are
    /// far between, or whose thread loses its CPU while it polls, sleeps at once. Limited by
    /// [`Spinners`](super::Spinners), as `Spin` is.
    ///
    /// On a machine with two usable CPUs, a server's thread whose client sleeps before it is answered
    /// moves to the CPU of that client and waits there asleep: it changes the affinity of the thread
    /// that waits.
    #[default]
    Adaptive,
    /// Sleep at once. Costs no CPU time while waiting and two context switches per round trip.
    Park,
    /// Poll for up to this long, then sleep. Polls only while [`Spinners`](super::Spinners) has room, so a machine
    /// with one usable CPU always parks.
    Spin(Duration),
}

/// A string that names no [`WaitPolicy`].
///
/// ```
/// use flipcall::WaitPolicy;
///
/// let why = "sometimes".parse::<WaitPolicy>().expect_err("that is no policy");
/// assert!(why.to_string().contains("adaptive"), "{why}");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown wait policy {given:?}: use `adaptive`, `park`, or `spin=USEC` with USEC from 1 to {max}",
    max = MAX_SPIN.as_micros()
)]
pub struct ParseWaitPolicyError {
    given: String,
}

impl FromStr for WaitPolicy {
    type Err = ParseWaitPolicyError;

    fn from_str(text: &str) -> Result<WaitPolicy, ParseWaitPolicyError> {
        let budget = || {
            let digits = text.strip_prefix("spin=")?;
            // `u64::from_str` alone would let "+5" through.
            if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            let budget = Duration::from_micros(digits.parse().ok()?);
            (!budget.is_zero() && budget <= MAX_SPIN).then_some(budget)
        };
        match text {
            "adaptive" => Ok(WaitPolicy::Adaptive),
            "park" => Ok(WaitPolicy::Park),
            _ => budget()
                .map(WaitPolicy::Spin)
                .ok_or_else(|| ParseWaitPolicyError {
                    given: text.to_owned(),
                }),
        }
    }
}

impl fmt::Display for WaitPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WaitPolicy::Adaptive => f.write_str("adaptive"),
            WaitPolicy::Park => f.write_str("park"),
            WaitPolicy::Spin(budget) => write!(f, "spin={}", budget.as_micros()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_policy_is_refused_with_the_alternatives() {
        let wrong = [
            "",
            "Adaptive",
            "adaptive=50",
            "PARK",
            "park ",
            "spin",
            "spin=",
            "spin=+5",
            "spin=-1",
            "spin=0",
            "spin=1000001",
            "spin=1us",
            "spin=0x10",
            "spin=99999999999999999999999",
        ];
        for text in wrong {
            let message = text.parse::<WaitPolicy>().unwrap_err().to_string();
            assert!(message.contains(&format!("{text:?}")), "{message}");
            assert!(
                ["`adaptive`", "`park`"]
                    .iter()
                    .all(|form| message.contains(form))
                    && message.contains("`spin=USEC`"),
                "{message}"
            );
            assert!(message.contains("1000000"), "{message}");
        }
    }

    #[test]
    fn display_is_what_is_parsed() {
        for text in ["adaptive", "park", "spin=1", "spin=1000000"] {
            assert_eq!(text.parse::<WaitPolicy>().unwrap().to_string(), text);
        }
    }
}
