//! What the gofer says, in the formats of `runsc`.
//!
//! Two descriptors may come with the process. What is logged goes to `--debug-log-fd`, in the format
//! that the user of `runsc` chose; and why the gofer cannot serve goes, one JSON object, to
//! `--log-fd`, where containerd and Docker look for something to show.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::process;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::unistd::dup2_stderr;
use serde::Serialize;
use tracing::{Event, Level, Subscriber, warn};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, Subscriber as Logger};
use tracing_subscriber::registry::LookupSpan;

use super::argv::Dialect;
use crate::sys::{self, LocalTime};

/// How lines of the debug log look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Format {
    /// `I1121 20:50:07.686471       1 file:line] message`, as glog has it.
    #[default]
    Text,
    /// A JSON object of `msg`, `level` and `time`.
    Json,
    /// The same, where `msg` is called `log`.
    JsonK8s,
}

#[derive(Debug, thiserror::Error)]
#[error("this is none of text, json and json-k8s")]
pub(crate) struct UnknownFormat;

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(word: &str) -> Result<Format, UnknownFormat> {
        match word {
            "text" => Ok(Format::Text),
            "json" => Ok(Format::Json),
            "json-k8s" => Ok(Format::JsonK8s),
            _ => Err(UnknownFormat),
        }
    }
}

/// Learns the time zone, for all that is said from here on.
///
/// To be called before the process leaves its root: that of the container has a time zone as well, in
/// a file that may be anything.
pub(crate) fn learn_time_zone() {
    sys::local_time(0);
}

/// Logs to `target` from here on, which stderr becomes too: panics in places without a log go there.
///
/// # Errors
/// As dup2(2).
pub(crate) fn start(
    target: OwnedFd,
    format: Format,
    dialect: Dialect,
    debug: bool,
) -> nix::Result<()> {
    dup2_stderr(&target)?;
    let lines = Lines {
        format,
        dialect,
        process: process::id(),
    };
    let level = if debug {
        LevelFilter::DEBUG
    } else {
        LevelFilter::INFO
    };
    // Nothing is said of what cannot be written, nor if this process logs elsewhere already.
    let logger = Logger::builder()
        .log_internal_errors(false)
        .with_max_level(level)
        .event_format(lines)
        .with_writer(Arc::new(File::from(target)))
        .finish();
    let _ = tracing::subscriber::set_global_default(logger);
    Ok(())
}

/// Says why the process cannot go on, everywhere. What cannot be written is not written: nobody is
/// left to be told.
pub(crate) fn fatal(log: Option<&File>, why: &dyn fmt::Display) {
    warn!("FATAL ERROR: {why}");
    let message = format!("lisafs-gofer: {why}");
    let _ = writeln!(io::stderr(), "{}", one_line(&message));
    let Some(mut log) = log else { return };
    let line = Line {
        msg: Some(&message),
        log: None,
        level: "error",
        time: &rfc3339(now()),
    };
    let _ = log.write_all(line.to_json().as_bytes());
}

/// The same without control characters: what is quoted, such as paths of the specification, could look
/// like a line of its own, or talk to a terminal. JSON needs none of this.
fn one_line(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    Cow::Owned(line)
}

/// A line of the JSON formats, in the order in which `runsc` has its members.
#[derive(Serialize)]
struct Line<'l> {
    #[serde(skip_serializing_if = "Option::is_none")]
    msg: Option<&'l str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    log: Option<&'l str>,
    level: &'l str,
    time: &'l str,
}

impl Line<'_> {
    fn to_json(&self) -> String {
        // Strings can always be written down.
        let mut json = serde_json::to_string(self).unwrap_or_default();
        json.push('\n');
        json
    }
}

/// Formats events as `runsc` does.
struct Lines {
    format: Format,
    dialect: Dialect,
    process: u32,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut to: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut message = String::new();
        context.format_fields(Writer::new(&mut message), event)?;
        let about = event.metadata();
        let file = about.file().and_then(|path| path.rsplit('/').next());
        let place = format!("{}:{}] ", file.unwrap_or("???"), about.line().unwrap_or(0));
        let line = self.line(now(), *about.level(), &place, &message);
        to.write_str(&line)
    }
}

impl Lines {
    fn line(&self, at: SystemTime, level: Level, place: &str, message: &str) -> String {
        // There are three levels.
        let (letter, word) = match level {
            Level::ERROR | Level::WARN => ('W', "warning"),
            Level::INFO => ('I', "info"),
            Level::DEBUG | Level::TRACE => ('D', "debug"),
        };
        // JSON of 2022 does not say where.
        let place = match (self.format, self.dialect) {
            (Format::Json | Format::JsonK8s, Dialect::Of2022) => "",
            _ => place,
        };
        let message = format!("{place}{message}");
        let (msg, log) = match self.format {
            Format::Text => {
                let time = glog(at);
                let message = one_line(&message);
                return format!("{letter}{time} {:>7} {message}\n", self.process);
            }
            Format::Json => (Some(message.as_str()), None),
            Format::JsonK8s => (None, Some(message.as_str())),
        };
        let line = Line {
            msg,
            log,
            level: word,
            time: &rfc3339(at),
        };
        line.to_json()
    }
}

fn now() -> SystemTime {
    SystemTime::now()
}

/// A moment as local time and nanoseconds.
fn local(at: SystemTime) -> (LocalTime, u32) {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    (sys::local_time(seconds), since.subsec_nanos())
}

/// `MMDD hh:mm:ss.micros`.
fn glog(at: SystemTime) -> String {
    let (time, nanoseconds) = local(at);
    format!(
        "{:02}{:02} {:02}:{:02}:{:02}.{:06}",
        time.month,
        time.day,
        time.hour,
        time.minute,
        time.second,
        nanoseconds / 1000
    )
}

/// `YYYY-MM-DDThh:mm:ss.nanos+hh:mm`.
fn rfc3339(at: SystemTime) -> String {
    let (time, nanoseconds) = local(at);
    let zone = match time.offset / 60 {
        0 => "Z".to_owned(),
        minutes => {
            let sign = if minutes < 0 { '-' } else { '+' };
            let minutes = minutes.abs();
            format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60)
        }
    };
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{nanoseconds:09}{zone}",
        time.year, time.month, time.day, time.hour, time.minute, time.second
    )
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek};
    use std::path::Path;
    use std::time::Duration;

    use serde_json::Value;

    use super::*;

    fn lines(format: Format, dialect: Dialect) -> Lines {
        Lines {
            format,
            dialect,
            process: 1,
        }
    }

    fn line(format: Format, dialect: Dialect, level: Level) -> String {
        // 13 digits after the dot do not fit: the last three are cut off, not rounded.
        let at = UNIX_EPOCH + Duration::new(1_763_758_207, 686_471_999);
        lines(format, dialect).line(at, level, "serve.rs:7] ", "a \"message\"")
    }

    #[test]
    fn text_is_as_glog_writes_it() {
        let text = line(Format::Text, Dialect::Today, Level::INFO);
        let (head, tail) = text.split_at(21);
        assert!(head.starts_with("I112"), "{text}");
        assert!(head.ends_with("07.686471"), "{text}");
        assert_eq!(tail, "       1 serve.rs:7] a \"message\"\n");
        assert!(line(Format::Text, Dialect::Of2022, Level::ERROR).starts_with('W'));
        assert!(line(Format::Text, Dialect::Of2022, Level::TRACE).starts_with('D'));
    }

    #[test]
    fn json_is_one_object_a_line_and_of_2022_without_the_place() {
        let json = |format, dialect| -> Value {
            let line = line(format, dialect, Level::WARN);
            assert_eq!(line.find('\n'), Some(line.len() - 1));
            serde_json::from_str(&line).unwrap()
        };
        let today = json(Format::Json, Dialect::Today);
        assert_eq!(today["msg"], "serve.rs:7] a \"message\"");
        assert_eq!(today["level"], "warning");
        let time = today["time"].as_str().unwrap();
        assert!(time.starts_with("2025-11-2"), "{time}");
        assert!(time.contains(":07.686471999"), "{time}");
        let then = json(Format::JsonK8s, Dialect::Of2022);
        assert_eq!(then["log"], "a \"message\"");
        assert_eq!(then.get("msg"), None);
    }

    #[test]
    fn events_become_lines_with_their_fields() {
        let mut file = tempfile::tempfile().unwrap();
        let logger = Logger::builder()
            .event_format(lines(Format::Text, Dialect::Today))
            .with_writer(Arc::new(file.try_clone().unwrap()))
            .finish();
        tracing::subscriber::with_default(logger, || tracing::info!(fd = 7, "serving"));
        let mut text = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        assert!(text.contains("       1 log.rs:"), "{text}");
        assert!(text.ends_with("] serving fd=7\n"), "{text}");
    }

    #[test]
    fn what_is_quoted_makes_no_lines() {
        let mut file = tempfile::tempfile().unwrap();
        let logger = Logger::builder()
            .event_format(lines(Format::Text, Dialect::Today))
            .with_writer(Arc::new(file.try_clone().unwrap()))
            .finish();
        let path = Path::new(
            "/a\nI0101 00:00:00.000000       1 x.rs:1] all is well\x1b[2J\u{9b}\t/\u{e4}",
        );
        tracing::subscriber::with_default(logger, || {
            tracing::warn!("FATAL ERROR: {}: no", path.display());
            tracing::info!(path = %path.display(), "serving");
        });
        let mut text = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text.lines().count(), 2, "{text:?}");
        assert!(
            text.lines().all(|line| !line.contains(char::is_control)),
            "{text:?}"
        );
        assert!(text.contains("/a\\nI0101"), "{text:?}");
        assert!(text.contains("/\u{e4}"), "{text:?}");
    }

    #[test]
    fn a_fatal_error_is_an_object_that_containerd_understands() {
        let mut file = tempfile::tempfile().unwrap();
        fatal(Some(&file), &"no way");
        let mut text = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        let line: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["msg"], "lisafs-gofer: no way");
        assert_eq!(line["level"], "error");
        assert!(line["time"].is_string());
    }
}
