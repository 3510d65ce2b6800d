//! Cuts a connection whose server does not answer.

use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{io, thread};

use flipcall::Closer;

/// How long a call may take: far more than any needs, and short enough to wait for.
const LIMIT: Duration = Duration::from_secs(10);

/// How often the thread looks within that time.
const LOOKS: u32 = 40;

/// A thread that watches the calls of one connection, and ends with it.
#[derive(Debug)]
pub(crate) struct Watchdog {
    watched: Arc<Watched>,
}

#[derive(Debug)]
struct Watched {
    stream: UnixStream,
    limit: Duration,
    /// How often the thread has looked. Time is counted in looks, so that a process that is stopped for
    /// a while, or now and again, takes nobody's call for one that hangs.
    looks: AtomicU64,
    calls: Arc<AtomicU64>,
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    closers: Vec<Closer>,
    clocks: Vec<Arc<Clock>>,
    over: bool,
    cut: bool,
}

/// When the running call of one communicator began, in looks and one; 0 when there is none.
#[derive(Debug, Default)]
pub(crate) struct Clock(AtomicU64);

/// Says that a call is running, until it is dropped.
#[derive(Debug)]
pub(crate) struct Running(Arc<Clock>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.0.store(0, Ordering::Relaxed);
    }
}

impl Watchdog {
    pub(crate) fn new(stream: &UnixStream) -> io::Result<Arc<Watchdog>> {
        Watchdog::with_limit(stream, LIMIT)
    }

    fn with_limit(stream: &UnixStream, limit: Duration) -> io::Result<Arc<Watchdog>> {
        let watched = Arc::new(Watched {
            stream: stream.try_clone()?,
            limit,
            looks: AtomicU64::new(0),
            calls: Arc::default(),
            state: Mutex::default(),
            ended: Condvar::new(),
        });
        let watching = Arc::clone(&watched);
        thread::Builder::new()
            .name("watchdog".to_owned())
            .spawn(move || watching.watch())?;
        Ok(Arc::new(Watchdog { watched }))
    }

    /// A clock for another communicator.
    pub(crate) fn clock(&self) -> Arc<Clock> {
        let clock = Arc::<Clock>::default();
        self.watched.state().clocks.push(Arc::clone(&clock));
        clock
    }

    /// Takes a channel along when the connection is cut.
    pub(crate) fn watch_channel(&self, closer: Closer) {
        self.watched.state().closers.push(closer);
    }

    /// How often a clock was started.
    pub(crate) fn calls(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.watched.calls)
    }

    /// Starts `clock`.
    pub(crate) fn running(&self, clock: &Arc<Clock>) -> Running {
        self.watched.calls.fetch_add(1, Ordering::Relaxed);
        let looks = self.watched.looks.load(Ordering::Relaxed);
        clock.0.store(looks + 1, Ordering::Relaxed);
        Running(Arc::clone(clock))
    }

    /// Whether a call took too long.
    pub(crate) fn has_cut(&self) -> bool {
        self.watched.state().cut
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.watched.state().over = true;
        self.watched.ended.notify_all();
    }
}

impl Watched {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks rather than being told of every call.
    fn watch(&self) {
        let mut state = self.state();
        while !state.over && !state.cut {
            state = match self.ended.wait_timeout(state, self.limit / LOOKS) {
                Ok((state, _)) => state,
                Err(poisoned) => poisoned.into_inner().0,
            };
            let looks = self.looks.fetch_add(1, Ordering::Relaxed) + 1;
            let overdue = state.clocks.iter().any(|clock| {
                let began = clock.0.load(Ordering::Relaxed);
                // The call began within a look, which does not count.
                began != 0 && looks.saturating_sub(began) >= u64::from(LOOKS)
            });
            if overdue {
                state.cut = true;
                // It may have ended already, which is as good.
                let _ = self.stream.shutdown(Shutdown::Both);
                for closer in &state.closers {
                    closer.shutdown(Duration::from_secs(1));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use super::Watchdog;

    #[test]
    fn a_call_that_takes_too_long_is_cut() {
        let (mut ours, _theirs) = UnixStream::pair().unwrap();
        let watchdog = Watchdog::with_limit(&ours, Duration::from_millis(20)).unwrap();
        let clock = watchdog.clock();
        let running = watchdog.running(&clock);
        // Nobody will ever write.
        assert_eq!(ours.read(&mut [0]).unwrap(), 0);
        drop(running);
        assert!(watchdog.has_cut());
    }

    #[test]
    fn a_connection_without_a_call_is_left_alone() {
        /// The one call takes no longer, also on a machine that does ten other things.
        const LIMIT: Duration = Duration::from_secs(1);
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let watchdog = Watchdog::with_limit(&ours, LIMIT).unwrap();
        let clock = watchdog.clock();
        drop(watchdog.running(&clock));
        ours.set_read_timeout(Some(2 * LIMIT)).unwrap();
        assert!(ours.read(&mut [0]).is_err());
        assert!(!watchdog.has_cut());
        drop(theirs);
    }
}
