//! Moments as people write them.

use std::fmt;

use lisafs::wire::Timestamp;

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

/// The date so many days after 1970-01-01.
///
/// Counts in years that begin in March, so that the leap day is the last of its year, and in eras
/// of 400 years, which all have the same number of days.
fn date(days: i64) -> (i64, i64, i64) {
    const DAYS_PER_ERA: i64 = 400 * 365 + 97;
    const DAYS_FROM_MARCH_0000: i64 = 719_468;
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
