//! Asking a gofer for its metrics.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use lisafs::Errno;

use crate::failure::Stop;

/// How long the gofer may be silent: it answers others first, who have two seconds each.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long an answer may be, in bytes; that of a gofer is a tenth.
const LONGEST: u64 = 1 << 20;

const QUESTION: &[u8] = b"GET /metrics HTTP/1.0\r\n\r\n";

/// The metrics of the gofer that answers at `path`, as text.
pub(super) fn scrape(path: &Path) -> Result<String, Stop> {
    let trouble = |why: &str| Stop::Trouble(format!("{}: {why}", path.display()));
    let answer = ask(path).map_err(|why| {
        let advice = match why.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                ": no gofer answers there, start one with `lisafs-gofer serve --metrics`"
            }
            // A gofer that is asked in another language hangs up.
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                ": is this the socket of --metrics?"
            }
            _ => "",
        };
        let why = Errno::from(&why);
        trouble(&format!("cannot ask for metrics: {why}{advice}"))
    })?;
    let (head, text) = answer
        .split_once("\r\n\r\n")
        .ok_or_else(|| trouble("the answer is no HTTP: is this the socket of --metrics?"))?;
    match head.split(' ').nth(1) {
        Some("200") => Ok(text.to_owned()),
        _ => Err(trouble("whoever answers there has no metrics")),
    }
}

fn ask(path: &Path) -> io::Result<String> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(QUESTION)?;
    let mut answer = Vec::new();
    stream.take(LONGEST).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
