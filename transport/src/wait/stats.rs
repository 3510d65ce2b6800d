#![forbid(unsafe_code)]
//! What waiting came to, in numbers.

use std::ops::AddAssign;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What the waits and hand-overs of one endpoint came to, since it was made.
///
/// A wait is counted in `spin_hits` or in `parks`, a hand-over in `wakes` or in `elided_wakes`. The
/// numbers are read one by one, so those of a busy endpoint need not add up.
///
/// ```
/// use flipcall::{PacketWindow, ServerEndpoint, Spinners, WaitPolicy, WaitStats};
///
/// let window = PacketWindow::create(4096)?;
/// let endpoint = ServerEndpoint::new(window, WaitPolicy::Park, &Spinners::new());
/// // Nobody has waited yet.
/// assert_eq!(endpoint.closer().wait_stats(), WaitStats::default());
/// # Ok::<(), flipcall::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WaitStats {
    /// Waits that went to sleep (a system call or more each).
    pub parks: u64,
    /// Hand-overs that woke the peer, or tried to (a system call each).
    pub wakes: u64,
    /// Hand-overs that did not have to, because the peer had said that it is awake.
    pub elided_wakes: u64,
    /// Waits that were over at the first look or while spinning.
    pub spin_hits: u64,
    /// Spins that ended without a turn; unless it comes that very moment, a park follows.
    pub spin_misses: u64,
    /// How often the thread was moved to another CPU.
    pub moves: u64,
}

/// The sum of several endpoints.
impl AddAssign for WaitStats {
    fn add_assign(&mut self, other: WaitStats) {
        self.parks += other.parks;
        self.wakes += other.wakes;
        self.elided_wakes += other.elided_wakes;
        self.spin_hits += other.spin_hits;
        self.spin_misses += other.spin_misses;
        self.moves += other.moves;
    }
}

/// The counters behind [`WaitStats`]: one writer, any number of readers.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    parks: AtomicU64,
    wakes: AtomicU64,
    elided_wakes: AtomicU64,
    spin_hits: AtomicU64,
    spin_misses: AtomicU64,
    moves: AtomicU64,
}

impl Counters {
    pub(super) fn count_wake(&self) {
        bump(&self.wakes);
    }

    pub(super) fn count_elided_wake(&self) {
        bump(&self.elided_wakes);
    }

    pub(super) fn count_park(&self) {
        bump(&self.parks);
    }

    pub(super) fn count_hit(&self) {
        bump(&self.spin_hits);
    }

    pub(super) fn count_miss(&self) {
        bump(&self.spin_misses);
    }

    pub(super) fn count_move(&self) {
        bump(&self.moves);
    }

    pub(crate) fn snapshot(&self) -> WaitStats {
        WaitStats {
            parks: self.parks.load(Relaxed),
            wakes: self.wakes.load(Relaxed),
            elided_wakes: self.elided_wakes.load(Relaxed),
            spin_hits: self.spin_hits.load(Relaxed),
            spin_misses: self.spin_misses.load(Relaxed),
            moves: self.moves.load(Relaxed),
        }
    }
}

/// Only the thread that owns the endpoint counts, so no locked instruction is needed.
fn bump(counter: &AtomicU64) {
    counter.store(counter.load(Relaxed).wrapping_add(1), Relaxed);
}
