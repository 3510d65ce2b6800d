//! The counters that a gofer exports (`--metrics`), as far as the client has the same.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::cost::Waits;

/// How long the gofer may be silent.
const PATIENCE: Duration = Duration::from_secs(10);

/// Of all channels that a gofer has served, which answers at `socket`.
pub(crate) fn waits(socket: &Path) -> io::Result<Waits> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    parse(&text).ok_or_else(|| io::Error::other("the gofer does not say how it waited"))
}

/// None if one of them is not there.
fn parse(text: &str) -> Option<Waits> {
    let of = |event: &str| {
        let name = format!("lisafs_channel_waits_total{{event=\"{event}\"}} ");
        let number = text.lines().find_map(|line| line.strip_prefix(&name));
        number?.parse().ok()
    };
    Some(Waits {
        parks: of("park")?,
        wakes: of("wake")?,
        elided_wakes: of("elided_wake")?,
        spin_hits: of("spin_hit")?,
        spin_misses: of("spin_miss")?,
        moves: of("move")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_events_have_to_be_there() {
        let events = [
            "park",
            "wake",
            "elided_wake",
            "spin_hit",
            "spin_miss",
            "move",
        ];
        let line =
            |(number, event)| format!("lisafs_channel_waits_total{{event=\"{event}\"}} {number}\n");
        let text: String = (1..).zip(events).map(line).collect();
        let waits = parse(&text).unwrap();
        assert_eq!(waits.events().map(|(_, number)| number), [1, 2, 3, 4, 5, 6]);
        assert!(parse(&text.replace("spin_miss", "other")).is_none());
        assert!(parse("").is_none());
    }
}
