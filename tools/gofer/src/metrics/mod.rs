//! `--metrics`: what this process serves, in numbers.
//!
//! Each serving thread has a [`Sheet`] that it alone writes, so counting costs no locked instruction.
//! A scrape adds the sheets up; a thread that ends leaves what it has counted to the sum.
#![forbid(unsafe_code)]

mod exporter;
mod exposition;
mod sheet;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use lisafs::observe::{Exchange, Observer, Via, Watch};
use lisafs::wire::{MESSAGE_COUNT, Mid, PReadResp, PWriteReq};
use parking_lot::Mutex;

pub(crate) use self::exporter::Exporter;
pub(crate) use self::exposition::Exposition;
use self::sheet::Sheet;

/// How many requests of a kind a thread times one by one, before it times a sample.
const ALL_TIMED: u64 = 64;

/// One in so many is timed from then on, and stands for as many. Two looks at the clock cost a
/// twentieth of the fastest request.
const SAMPLE: u64 = 32;

/// All that is counted.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    threads: Mutex<Threads>,
}

#[derive(Debug, Default)]
struct Threads {
    next: u64,
    running: HashMap<u64, (Transport, Arc<Sheet>)>,
    ended: Sums,
}

/// How a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transport {
    Socket,
    Channel,
}

/// What all threads have counted, apart by how requests came.
#[derive(Debug, Default)]
struct Sums {
    socket: Sheet,
    channel: Sheet,
}

impl Sums {
    fn of(&self, transport: Transport) -> &Sheet {
        match transport {
            Transport::Socket => &self.socket,
            Transport::Channel => &self.channel,
        }
    }
}

impl Metrics {
    pub(crate) fn new() -> Arc<Metrics> {
        Arc::default()
    }

    /// What is to see all requests.
    pub(crate) fn observer(self: &Arc<Self>) -> Arc<dyn Observer> {
        Arc::new(Counter {
            metrics: Arc::clone(self),
        })
    }

    /// Adds everything up. No number is less than before: threads come and go under the lock.
    fn sums(&self) -> Sums {
        let threads = self.threads.lock();
        let sums = Sums::default();
        sums.socket.add(&threads.ended.socket);
        sums.channel.add(&threads.ended.channel);
        for (transport, sheet) in threads.running.values() {
            sums.of(*transport).add(sheet);
        }
        sums
    }
}

#[derive(Debug)]
struct Counter {
    metrics: Arc<Metrics>,
}

impl Observer for Counter {
    fn watch(&self, via: Via) -> Box<dyn Watch> {
        let transport = match via {
            Via::Socket(_) => Transport::Socket,
            Via::Channel(..) => Transport::Channel,
        };
        let sheet = Arc::new(Sheet::default());
        let mut threads = self.metrics.threads.lock();
        let number = threads.next;
        threads.next += 1;
        threads
            .running
            .insert(number, (transport, Arc::clone(&sheet)));
        Box::new(Counting {
            metrics: Arc::clone(&self.metrics),
            number,
            sheet,
            timed: None,
        })
    }
}

/// A thread that counts.
#[derive(Debug)]
struct Counting {
    metrics: Arc<Metrics>,
    number: u64,
    sheet: Arc<Sheet>,
    /// When the request began that is being served, if it is timed, and for how many it stands.
    timed: Option<(Instant, u64)>,
}

impl Watch for Counting {
    fn begin(&mut self, mid: Mid) {
        self.timed = match self.sheet.requests(index(mid)) {
            served if served < ALL_TIMED => Some((Instant::now(), 1)),
            served if served % SAMPLE == 0 => Some((Instant::now(), SAMPLE)),
            _ => None,
        };
    }

    fn end(&mut self, exchange: &Exchange<'_>) {
        let message = index(exchange.mid);
        self.sheet.count_request(message);
        if let Some((began, weight)) = self.timed.take() {
            self.sheet.time(message, began.elapsed(), weight);
        }
        match (exchange.outcome, exchange.mid) {
            (Err(errno), _) => self.sheet.count_error(errno),
            (Ok(()), Mid::PREAD) => {
                let header = PReadResp::DATA_OFFSET as usize;
                let read = exchange.reply.len().saturating_sub(header);
                self.sheet.add_read(read as u64);
            }
            (Ok(()), Mid::PWRITE) => self.sheet.add_written(written(exchange)),
            (Ok(()), _) => {}
        }
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        let mut threads = self.metrics.threads.lock();
        if let Some((transport, sheet)) = threads.running.remove(&self.number) {
            threads.ended.of(transport).add(&sheet);
        }
    }
}

/// Where a message is counted. Those that there are not, are counted as number 0.
fn index(mid: Mid) -> usize {
    let index = usize::from(mid.0);
    if index < MESSAGE_COUNT { index } else { 0 }
}

/// How much a PWrite has written. The client may have changed the reply since, but not to more than
/// it has sent.
fn written(exchange: &Exchange<'_>) -> u64 {
    let mut count = [0; 8];
    let sent = exchange
        .request_len
        .saturating_sub(PWriteReq::DATA_OFFSET as usize);
    match exchange.reply.copy_to(0, &mut count) {
        Ok(()) => u64::from_le_bytes(count).min(sent as u64),
        Err(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use flipcall::SharedBytes;
    use lisafs::Errno;

    use super::*;

    fn served(watch: &mut dyn Watch, mid: Mid, reply: &mut [u8], outcome: Result<(), Errno>) {
        watch.begin(mid);
        watch.end(&Exchange {
            mid,
            request: &[],
            request_len: 25,
            reply: SharedBytes::from(reply),
            outcome,
            descriptors: 0,
        });
    }

    #[test]
    fn what_ended_threads_have_counted_stays() {
        let metrics = Metrics::new();
        let observer = metrics.observer();
        let mut first = observer.watch(Via::Socket(1));
        let mut second = observer.watch(Via::Channel(1, 0));
        served(&mut *first, Mid::FSTAT, &mut [], Ok(()));
        served(&mut *first, Mid(99), &mut [], Err(Errno::EOPNOTSUPP));
        served(&mut *second, Mid::PREAD, &mut [0; 8 + 5], Ok(()));
        // Five bytes were sent, whatever the reply says by now.
        served(&mut *second, Mid::PWRITE, &mut [0xff; 8], Ok(()));
        let look = || {
            let sums = metrics.sums();
            let stats = index(Mid::FSTAT);
            (
                sums.socket.requests(stats),
                sums.channel.requests(stats),
                sums.socket.requests(0),
                sums.channel.read(),
                sums.channel.written(),
            )
        };
        assert_eq!(look(), (1, 0, 1, 5, 5));
        drop((first, second));
        assert_eq!(look(), (1, 0, 1, 5, 5));
        assert!(metrics.threads.lock().running.is_empty());
    }

    #[test]
    fn samples_stand_for_all() {
        let metrics = Metrics::new();
        let mut watch = metrics.observer().watch(Via::Socket(1));
        let count = ALL_TIMED + 10 * SAMPLE;
        for _ in 0..count {
            served(&mut *watch, Mid::FSTAT, &mut [], Ok(()));
        }
        served(&mut *watch, Mid::WALK, &mut [], Ok(()));
        let sums = metrics.sums();
        let timed = |mid| {
            let buckets = sums.socket.latency(index(mid)).buckets();
            buckets.iter().map(|(_, count)| count).sum::<u64>()
        };
        assert_eq!(sums.socket.requests(index(Mid::FSTAT)), count);
        assert_eq!(timed(Mid::FSTAT), count);
        assert_eq!(timed(Mid::WALK), 1);
    }
}
