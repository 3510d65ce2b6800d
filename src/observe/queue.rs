//! Where lines go: straight to a writer, or past one who is too slow.

use std::fmt;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::Line;

/// Takes lines.
///
/// A writer behind a lock is one, here one that keeps all:
/// ```
/// use std::sync::{Arc, Mutex};
///
/// use lisafs::client::ClientOptions;
/// use lisafs::observe::Tracer;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let served = lisafs_served::directory()?;
/// # let stream = served.connect()?;
/// let lines = Arc::new(Mutex::new(Vec::new()));
/// let client = ClientOptions::new()
///     .observer(Arc::new(Tracer::new(lines.clone())))
///     .from_stream(stream)?;
/// client.create_dir("a")?;
/// let text = String::from_utf8(lines.lock().unwrap().clone())?;
/// assert!(text.lines().any(|line| line.contains("MkdirAt(")));
/// # Ok(())
/// # }
/// ```
pub trait Sink: fmt::Debug + Send + Sync {
    /// Takes one line, which ends with a line feed.
    fn line(&self, line: &Line);
}

/// Whoever makes a line waits until it is written. What cannot be written is lost.
impl<W: Write + fmt::Debug + Send> Sink for Mutex<W> {
    fn line(&self, line: &Line) {
        let mut writer = self.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = writer.write_all(line.as_str().as_bytes());
    }
}

/// How many lines can wait to be written: 2 MiB of them.
const WAITING: usize = 4096;

/// How long the writer lets lines gather. Waking it costs whoever makes a line more than the line.
const GATHER: Duration = Duration::from_millis(1);

/// How much is written at a time, in bytes.
const BATCH: usize = 64 << 10;

/// Lines on their way to a writer that nobody waits for. When more have gathered than there is room
/// for, lines are left out, and the writer is told how many.
///
/// The memory for the lines is there from the start.
///
/// A trace of a client that waits for nobody who reads it:
/// ```
/// use std::sync::Arc;
/// use std::sync::mpsc::channel;
/// use std::time::Duration;
///
/// use lisafs::client::ClientOptions;
/// use lisafs::observe::{Queue, Tracer};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let served = lisafs_served::directory()?;
/// # let stream = served.connect()?;
/// let (sender, lines) = channel();
/// let queue = Arc::new(Queue::start(move |text| {
///     // Nobody may be reading any more.
///     let _ = sender.send(text.to_owned());
/// })?);
/// let client = ClientOptions::new()
///     .observer(Arc::new(Tracer::new(queue.clone())))
///     .from_stream(stream)?;
/// client.create_dir("a")?;
/// assert!(queue.flush(Duration::from_secs(60)));
/// let text: String = lines.try_iter().collect();
/// assert!(text.contains("MkdirAt("));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Queue {
    to_writer: SyncSender<Item>,
    left_out: Arc<AtomicU64>,
}

// All have the size of a line: that is what the room is for.
#[allow(clippy::large_enum_variant)]
enum Item {
    Line(Line),
    /// Somebody wants to know when all before this is written.
    Mark(SyncSender<()>),
}

impl Queue {
    /// Starts a thread that hands lines to `write`, one or more at a time, each with its end.
    ///
    /// # Errors
    /// As for starting a thread.
    pub fn start(write: impl FnMut(&str) + Send + 'static) -> io::Result<Queue> {
        let (to_writer, lines) = sync_channel(WAITING);
        let left_out = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&left_out);
        thread::Builder::new()
            .name("trace".to_owned())
            .spawn(move || write_all(&lines, &counter, write))?;
        Ok(Queue {
            to_writer,
            left_out,
        })
    }

    /// Waits until all lines so far are written, but not longer than `patience`. Returns whether
    /// they are.
    pub fn flush(&self, patience: Duration) -> bool {
        let start = Instant::now();
        let (done, written) = sync_channel(1);
        let mut mark = Item::Mark(done);
        loop {
            match self.to_writer.try_send(mark) {
                Ok(()) => break,
                Err(TrySendError::Disconnected(_)) => return false,
                Err(TrySendError::Full(unsent)) => mark = unsent,
            }
            if start.elapsed() > patience {
                return false;
            }
            thread::sleep(GATHER);
        }
        let rest = patience.saturating_sub(start.elapsed());
        written.recv_timeout(rest).is_ok()
    }
}

impl Sink for Queue {
    fn line(&self, line: &Line) {
        if self.to_writer.try_send(Item::Line(line.clone())).is_err() {
            self.left_out.fetch_add(1, Relaxed);
        }
    }
}

fn write_all(lines: &Receiver<Item>, left_out: &AtomicU64, mut write: impl FnMut(&str)) {
    let mut batch = String::with_capacity(BATCH + Line::SIZE);
    while let Ok(first) = lines.recv() {
        let mut next = Ok(first);
        loop {
            let mark = match next {
                Ok(Item::Line(line)) => {
                    batch.push_str(line.as_str());
                    None
                }
                Ok(Item::Mark(done)) => Some(done),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            };
            if mark.is_some() || batch.len() >= BATCH {
                finish(&mut batch, left_out, &mut write);
            }
            // Nobody waits any more if this fails.
            let _ = mark.map(|done| done.try_send(()));
            next = lines.try_recv();
        }
        finish(&mut batch, left_out, &mut write);
        thread::sleep(GATHER);
    }
}

/// Writes what has gathered, and how many lines there was no room for since.
fn finish(batch: &mut String, left_out: &AtomicU64, write: &mut impl FnMut(&str)) {
    let lost = left_out.swap(0, Relaxed);
    if lost > 0 {
        batch.push_str(&format!(
            "... {lost} lines left out: they came faster than they were taken\n"
        ));
    }
    if !batch.is_empty() {
        write(batch);
    }
    batch.clear();
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn line(number: usize) -> Line {
        let mut line = Line::new();
        line.push(Line::SIZE, format_args!("line {number}\n"));
        line
    }

    #[test]
    fn lines_arrive_in_order_and_a_flush_waits_for_them() {
        let (sender, written) = channel();
        let queue = Queue::start(move |text| sender.send(text.to_owned()).unwrap()).unwrap();
        (0..100).for_each(|number| queue.line(&line(number)));
        assert!(queue.flush(PATIENCE));
        let text: String = written.try_iter().collect();
        let expected: String = (0..100).map(|number| format!("line {number}\n")).collect();
        assert_eq!(text, expected);
    }

    #[test]
    fn a_writer_that_hangs_costs_lines_and_no_time() {
        let (start, started) = sync_channel::<()>(0);
        let (sender, written) = channel();
        let queue = Queue::start(move |text| {
            let _ = started.recv();
            sender.send(text.to_owned()).unwrap();
        })
        .unwrap();
        let surplus = 500;
        // The writer holds at most a batch besides what is queued.
        let most = WAITING + BATCH / "line 0\n".len();
        (0..most + surplus).for_each(|number| queue.line(&line(number)));
        assert!(!queue.flush(Duration::from_millis(5)), "nothing is written");
        drop(start);
        assert!(queue.flush(PATIENCE));
        let text: String = written.try_iter().collect();
        let (lost, lines): (Vec<&str>, Vec<&str>) =
            text.lines().partition(|line| line.contains("left out"));
        let lost: usize = lost
            .iter()
            .map(|line| line.split(' ').nth(1).unwrap().parse::<usize>().unwrap())
            .sum();
        assert!(lost >= surplus, "{lost}");
        assert_eq!(lines.len() + lost, most + surplus);
    }
}
