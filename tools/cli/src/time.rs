//! Moments as people write them.

use std::fmt;
use std::str::FromStr;

use lisafs::wire::{TimeSpec, Timestamp};

const SECONDS_PER_DAY: i64 = 24 * 60 * 60;

/// `2026-11-21 18:32:09.000000001 +0000`: in UTC, as `ls --full-time` has it.
pub(crate) struct Utc(pub(crate) Timestamp);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Timestamp { sec, nsec, .. } = self.0;
        let (year, month, day) = date(sec.div_euclid(SECONDS_PER_DAY));
        let second = sec.rem_euclid(SECONDS_PER_DAY);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(
            f,
            "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{nsec:09} +0000"
        )
    }
}

/// A moment to set: `2026-11-21 18:32:09.5` in UTC, also without what is behind the date, the minute or
/// the second; or `@1700000000.5`, seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment(pub(crate) TimeSpec);

/// A word that is no moment.
#[derive(Debug, thiserror::Error)]
#[error("it is not YYYY-MM-DD[ HH:MM[:SS[.N]]] nor @SECONDS[.N]")]
pub(crate) struct NotAMoment;

impl FromStr for Moment {
    type Err = NotAMoment;

    fn from_str(text: &str) -> Result<Moment, NotAMoment> {
        let parsed = match text.strip_prefix('@') {
            Some(seconds) => since_epoch(seconds),
            None => calendar(text),
        };
        parsed.map(Moment).ok_or(NotAMoment)
    }
}

fn since_epoch(text: &str) -> Option<TimeSpec> {
    let (seconds, nsec) = match text.split_once('.') {
        Some((seconds, fraction)) => (seconds, nanoseconds(fraction)?),
        None => (text, 0),
    };
    let digits = seconds.strip_prefix('-').unwrap_or(seconds);
    digits
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then_some(())?;
    let sec: i64 = seconds.parse().ok()?;
    // -1.25 is 0.75 behind -2.
    Some(match (seconds.starts_with('-'), nsec) {
        (false, _) | (true, 0) => TimeSpec { sec, nsec },
        (true, nsec) => TimeSpec {
            sec: sec.checked_sub(1)?,
            nsec: 1_000_000_000 - nsec,
        },
    })
}

fn calendar(text: &str) -> Option<TimeSpec> {
    let text = text.strip_suffix('Z').unwrap_or(text);
    let text = text.strip_suffix(" +0000").unwrap_or(text);
    let (day, time) = match text.split_once([' ', 'T']) {
        Some((day, time)) => (day, Some(time)),
        None => (text, None),
    };
    let mut parts = day.splitn(3, '-');
    let mut part = |most| number(parts.next()?, most);
    let wanted = (part(9999)?, part(12)?, part(31)?);
    let days = days_until(wanted.0, wanted.1, wanted.2);
    // The 30th of February is another day.
    (date(days) == wanted).then_some(())?;
    let (mut second, mut nsec) = (0, 0);
    if let Some(time) = time {
        let (time, fraction) = match time.split_once('.') {
            Some((time, fraction)) => (time, Some(fraction)),
            None => (time, None),
        };
        let mut parts = time.splitn(3, ':');
        let (hour, minute) = (number(parts.next()?, 23)?, number(parts.next()?, 59)?);
        let last = parts.next();
        second = (hour * 60 + minute) * 60 + last.map_or(Some(0), |last| number(last, 59))?;
        if let Some(fraction) = fraction {
            last?;
            nsec = nanoseconds(fraction)?;
        }
    }
    Some(TimeSpec {
        sec: days * SECONDS_PER_DAY + second,
        nsec,
    })
}

fn number(digits: &str, most: i64) -> Option<i64> {
    let number = digits.bytes().all(|byte| byte.is_ascii_digit());
    let number = number.then(|| digits.parse().ok())?;
    number.filter(|number| *number <= most)
}

/// The digits behind the point of a second.
fn nanoseconds(digits: &str) -> Option<i64> {
    if !(1..=9).contains(&digits.len()) {
        return None;
    }
    let number = number(digits, i64::MAX)?;
    (digits.len()..9).try_fold(number, |number, _| number.checked_mul(10))
}

/// The days from 1970-01-01 to a date; of a day that is none, to one close by.
fn days_until(year: i64, month: i64, day: i64) -> i64 {
    // Of years that begin in March, as below.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    365 * year + leap_days + (153 * month + 2) / 5 + day - 1 - DAYS_FROM_MARCH_0000
}

/// The days from 0000-03-01 to 1970-01-01.
const DAYS_FROM_MARCH_0000: i64 = 719_468;

/// The date so many days after 1970-01-01.
///
/// Counts in years that begin in March, so that the leap day is the last of its year, and in eras
/// of 400 years, which all have the same number of days.
fn date(days: i64) -> (i64, i64, i64) {
    const DAYS_PER_ERA: i64 = 400 * 365 + 97;
    let days = days + DAYS_FROM_MARCH_0000;
    let (era, day) = (days.div_euclid(DAYS_PER_ERA), days.rem_euclid(DAYS_PER_ERA));
    // Leap days are taken out before it is divided: one in 4 years, not in 100, and the last.
    let year = (day - day / (4 * 365) + day / (100 * 365 + 24) - day / (DAYS_PER_ERA - 1)) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // Five months from March on have 153 days, and so have the next five.
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (400 * era + year + carry, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goes day by day through 1,200 years, with the calendar's own rules.
    #[test]
    fn every_day_has_its_date() {
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for days in 0..1200 * 366 {
            assert_eq!(date(days), (year, month, day));
            assert_eq!(days_until(year, month, day), days);
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let length = match month {
                2 if leap => 29,
                2 => 28,
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            day += 1;
            if day > length {
                (month, day) = (month + 1, 1);
            }
            if month > 12 {
                (year, month) = (year + 1, 1);
            }
        }
        assert_eq!(date(-1), (1969, 12, 31));
        assert_eq!(date(-719_468), (0, 3, 1));
    }

    #[test]
    fn moments_are_read_as_they_are_shown() {
        for (text, sec, nsec) in [
            ("@0", 0, 0),
            ("@1700000000.5", 1_700_000_000, 500_000_000),
            ("@-1", -1, 0),
            ("@-0.25", -1, 750_000_000),
            ("1970-01-01", 0, 0),
            ("2000-02-29 12:34", 951_827_640, 0),
            ("2000-02-29T12:34:56Z", 951_827_696, 0),
            ("2000-02-29 12:34:56.000000001 +0000", 951_827_696, 1),
            ("1969-12-31 23:59:59.9", -1, 900_000_000),
        ] {
            let parsed: Moment = text.parse().unwrap();
            assert_eq!(parsed, Moment(TimeSpec { sec, nsec }), "{text}");
        }
        for text in [
            "",
            "@",
            "@x",
            "@1.",
            "@+1",
            "now",
            "2000",
            "2000-02-30",
            "2000-13-01",
            "2000-00-01",
            "2000-01-01 24:00",
            "2000-01-01 12",
            "2000-01-01 12:00.5",
            "2000-01-01 12:00:60",
            "2000-01-01 12:00:00.0123456789",
            "2000-1-1 ",
            "+200-01-01",
        ] {
            assert!(text.parse::<Moment>().is_err(), "{text}");
        }
    }

    #[test]
    fn moments_are_shown_in_utc() {
        let shown = |sec, nsec| {
            let at = Timestamp {
                sec,
                nsec,
                ..Timestamp::default()
            };
            Utc(at).to_string()
        };
        assert_eq!(shown(0, 1), "1970-01-01 00:00:00.000000001 +0000");
        assert_eq!(shown(-1, 0), "1969-12-31 23:59:59.000000000 +0000");
        assert_eq!(shown(951_827_696, 0), "2000-02-29 12:34:56.000000000 +0000");
    }
}
