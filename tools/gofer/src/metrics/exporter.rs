//! The socket on which the numbers can be asked for, with as much HTTP as that takes.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::{self, JoinHandle, Scope};
use std::time::{Duration, Instant};

use lisafs::observe::Occurrences;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tracing::{debug, warn};

use super::Exposition;
use super::exposition::CONTENT_TYPE;
use crate::failure::{Failure, cannot};
use crate::listener::Listener;

/// How long one who asks gets, from the first byte of the question to the last of the answer.
const DEADLINE: Duration = Duration::from_secs(2);

/// How long a question may be, in bytes.
const QUESTION: usize = 8 << 10;

/// How long to leave somebody waiting whom there are no resources for, in milliseconds.
const PAUSE: u16 = 100;

/// How many are answered at a time, so that who says nothing delays nobody else. One more is answered
/// before anybody else is accepted.
const AT_A_TIME: usize = 8;

/// A thread that answers whoever asks, until this is dropped. The socket goes with it.
#[derive(Debug)]
pub(crate) struct Exporter {
    /// Closed to end the thread.
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl Exporter {
    /// Answers those who connect to `listener`.
    pub(crate) fn start(listener: Listener, exposition: Exposition) -> Result<Exporter, Failure> {
        let failed = cannot("cannot start to answer on --metrics");
        let (stop, stopped) = UnixStream::pair().map_err(&failed)?;
        let thread = thread::Builder::new()
            .name("metrics".to_owned())
            .spawn(move || {
                let answered =
                    thread::scope(|scope| answer_all(scope, &listener, &stopped, &exposition));
                if let Err(why) = answered {
                    warn!(%why, "there are no more metrics");
                }
            })
            .map_err(failed)?;
        Ok(Exporter {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A thread that has panicked has said so.
            let _ = thread.join();
        }
    }
}

fn answer_all<'s>(
    scope: &'s Scope<'s, '_>,
    listener: &Listener,
    stopped: &'s UnixStream,
    exposition: &'s Exposition,
) -> nix::Result<()> {
    let answering = Arc::new(());
    let waits = Occurrences::new();
    let stop = || PollFd::new(stopped.as_fd(), PollFlags::POLLIN);
    loop {
        let mut fds = [stop(), PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            other => other?,
        };
        if is_stopped(fds.first()) {
            return Ok(());
        }
        match listener.accept() {
            Ok(None) => {}
            Ok(Some(scraper)) => {
                let place = Arc::clone(&answering);
                if Arc::strong_count(&place) > AT_A_TIME + 1 {
                    serve(scraper, stopped, exposition);
                    continue;
                }
                let started = thread::Builder::new()
                    .name("metrics".to_owned())
                    .spawn_scoped(scope, move || {
                        serve(scraper, stopped, exposition);
                        drop(place);
                    });
                if let Err(why) = started {
                    debug!(%why, "somebody who asked for metrics got none");
                }
            }
            Err(why) => {
                // It stays in the queue, so the socket stays readable.
                if let Some(count) = waits.happened() {
                    warn!(count, %why, "somebody who asks for metrics has to wait");
                }
                let mut fds = [stop()];
                if poll(&mut fds, PAUSE).is_ok_and(|_| is_stopped(fds.first())) {
                    return Ok(());
                }
            }
        }
    }
}

fn serve(scraper: UnixStream, stopped: &UnixStream, exposition: &Exposition) {
    let scraper = Scraper::new(scraper, stopped);
    if let Err(why) = scraper.and_then(|scraper| answer(&scraper, exposition)) {
        debug!(%why, "somebody who asked for metrics got none");
    }
}

/// Whether the first descriptor that was waited for is what stops the thread, and has been closed.
fn is_stopped(first: Option<&PollFd<'_>>) -> bool {
    first.and_then(PollFd::any) == Some(true)
}

/// Somebody who asks, as long as there is time and the thread is to go on.
struct Scraper<'s> {
    stream: UnixStream,
    stopped: &'s UnixStream,
    deadline: Instant,
}

impl<'s> Scraper<'s> {
    fn new(stream: UnixStream, stopped: &'s UnixStream) -> io::Result<Scraper<'s>> {
        stream.set_nonblocking(true)?;
        Ok(Scraper {
            stream,
            stopped,
            deadline: Instant::now() + DEADLINE,
        })
    }

    /// Does what a system call does that would have to wait for `event`.
    fn when(
        &self,
        event: PollFlags,
        mut attempt: impl FnMut(&UnixStream) -> io::Result<usize>,
    ) -> io::Result<usize> {
        loop {
            match attempt(&self.stream) {
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => self.wait(event)?,
                Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }

    fn wait(&self, event: PollFlags) -> io::Result<()> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        // One more, as what is less than a millisecond would be none.
        let left = left + Duration::from_millis(1);
        let mut fds = [
            PollFd::new(self.stopped.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.stream.as_fd(), event),
        ];
        match poll(
            &mut fds,
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX),
        ) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(why) => return Err(why.into()),
        }
        if is_stopped(fds.first()) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(())
    }
}

/// Answers one question.
fn answer(scraper: &Scraper<'_>, exposition: &Exposition) -> io::Result<()> {
    let question = read_question(scraper)?;
    let (status, content_type, text) = match judge(&question) {
        Ok(()) => match exposition.text() {
            Ok(text) => ("200 OK", CONTENT_TYPE, text),
            Err(_) => refusal("500 Internal Server Error"),
        },
        Err(status) => refusal(status),
    };
    let mut reply = format!(
        "HTTP/1.0 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        text.len()
    );
    if !question.starts_with(b"HEAD ") {
        reply.push_str(&text);
    }
    let mut rest = reply.as_bytes();
    while !rest.is_empty() {
        match scraper.when(PollFlags::POLLOUT, |mut to| to.write(rest))? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => rest = rest.get(written..).unwrap_or_default(),
        }
    }
    Ok(())
}

fn refusal(status: &'static str) -> (&'static str, &'static str, String) {
    (status, "text/plain", format!("{status}\n"))
}

/// Reads the head of a question. What follows is not looked at.
fn read_question(scraper: &Scraper<'_>) -> io::Result<Vec<u8>> {
    let mut question = Vec::new();
    let mut piece = [0; 1024];
    while !is_complete(&question) && question.len() < QUESTION {
        match scraper.when(PollFlags::POLLIN, |mut from| from.read(&mut piece))? {
            0 => break,
            count => question.extend_from_slice(piece.get(..count).unwrap_or_default()),
        }
    }
    Ok(question)
}

fn is_complete(question: &[u8]) -> bool {
    question.windows(4).any(|end| end == b"\r\n\r\n")
        || question.windows(2).any(|end| end == b"\n\n")
}

/// Whether a question is for the metrics, or what it is answered instead.
fn judge(question: &[u8]) -> Result<(), &'static str> {
    if !is_complete(question) {
        return Err("400 Bad Request");
    }
    let line = question.split(|byte| matches!(byte, b'\r' | b'\n')).next();
    let mut words = line.unwrap_or_default().split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version)) = (words.next(), words.next(), words.next())
    else {
        return Err("400 Bad Request");
    };
    if !version.starts_with(b"HTTP/") {
        return Err("400 Bad Request");
    }
    if !matches!(method, b"GET" | b"HEAD") {
        return Err("405 Method Not Allowed");
    }
    // A scraper may have parameters of its own behind a question mark.
    match target.split(|byte| *byte == b'?').next() {
        Some(b"/metrics" | b"/") => Ok(()),
        _ => Err("404 Not Found"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_says_nothing_does_not_keep_the_thread_from_its_end() {
        let (_silent, stream) = UnixStream::pair().unwrap();
        let (stop, stopped) = UnixStream::pair().unwrap();
        drop(stop);
        let scraper = Scraper::new(stream, &stopped).unwrap();
        let why = read_question(&scraper).unwrap_err();
        assert_eq!(why.kind(), io::ErrorKind::ConnectionAborted);
    }

    #[test]
    fn who_says_nothing_has_his_time() {
        let (_silent, stream) = UnixStream::pair().unwrap();
        let (_stop, stopped) = UnixStream::pair().unwrap();
        let mut scraper = Scraper::new(stream, &stopped).unwrap();
        scraper.deadline = Instant::now() + Duration::from_millis(5);
        let why = read_question(&scraper).unwrap_err();
        assert_eq!(why.kind(), io::ErrorKind::TimedOut);
        assert!(Instant::now() >= scraper.deadline);
    }

    #[test]
    fn only_the_metrics_can_be_asked_for() {
        for question in [
            "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
            "GET / HTTP/1.0\r\n\r\n",
            "HEAD /metrics?name=x HTTP/1.1\r\n\r\n",
            "GET /metrics HTTP/1.0\n\n",
        ] {
            assert_eq!(judge(question.as_bytes()), Ok(()), "{question}");
        }
        for (question, status) in [
            ("", "400"),
            ("GET /metrics HTTP/1.1\r\n", "400"),
            ("GET /metrics\r\n\r\n", "400"),
            ("GET /metrics FTP/1\r\n\r\n", "400"),
            ("\u{0}\r\n\r\n", "400"),
            ("POST /metrics HTTP/1.1\r\n\r\n", "405"),
            ("GET /etc/passwd HTTP/1.1\r\n\r\n", "404"),
        ] {
            let answer = judge(question.as_bytes()).unwrap_err();
            assert!(answer.starts_with(status), "{question}: {answer}");
        }
    }
}
