#![forbid(unsafe_code)]
//! Who may use the window: the hand-over protocol, without the memory it runs on.
//!
//! One shared word says whose turn it is. Everything here is generic over [`Word`], so the very
//! code that moves packets, orderings included, is also what `tests/loom.rs` explores exhaustively.
//!
//! Two words matter:
//! - `state`, in the window, written by both processes and never to be believed;
//! - `gate`, in private memory, shared only by the threads of this process: has anybody asked for
//!   the end, and may a thread be asleep? Both questions live in one word so that each side's
//!   read-modify-write is ordered against the other's without sequential consistency.

use std::sync::atomic::Ordering::{self, AcqRel, Acquire, Relaxed};

use nix::errno::Errno;

/// Value of `state` while the client may use the window; a fresh, zeroed window starts here.
pub(crate) const CLIENT_ACTIVE: u32 = 0;
/// Value of `state` while the server may use the window.
pub(crate) const SERVER_ACTIVE: u32 = 1;
/// Value of `state` once the channel has ended. Nothing leaves this state.
pub(crate) const SHUT_DOWN: u32 = 2;

/// Set in `gate` when this side has ended, on request or by an error.
const CLOSING: u32 = 1;
/// Set in `gate` around every sleep.
const ASLEEP: u32 = 2;

/// An atomic `u32` that threads can sleep on.
pub(crate) trait Word {
    /// Atomic load.
    fn load(&self, order: Ordering) -> u32;
    /// Atomic compare-and-exchange; the failure ordering is relaxed. `Err` holds the value found.
    fn compare_exchange(&self, from: u32, to: u32, order: Ordering) -> Result<u32, u32>;
    /// Atomic exchange, returns the old value.
    fn swap(&self, to: u32, order: Ordering) -> u32;
    /// Atomic or, returns the old value.
    fn fetch_or(&self, bits: u32, order: Ordering) -> u32;
    /// Atomic and, returns the old value.
    fn fetch_and(&self, bits: u32, order: Ordering) -> u32;
    /// Sleeps while the word holds `expected`. May return early for no reason.
    fn wait(&self, expected: u32) -> Result<(), Errno>;
    /// Wakes up to `count` sleepers.
    fn wake(&self, count: i32) -> Result<(), Errno>;
}

/// Which end of the channel this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Client,
    Server,
}

impl Role {
    fn mine(self) -> u32 {
        match self {
            Role::Client => CLIENT_ACTIVE,
            Role::Server => SERVER_ACTIVE,
        }
    }

    fn theirs(self) -> u32 {
        match self {
            Role::Client => SERVER_ACTIVE,
            Role::Server => CLIENT_ACTIVE,
        }
    }
}

/// Why a side may not use the window any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Either side asked for the end.
    Shutdown,
    /// The peer left a value in the word that no rule allows.
    BadState(u32),
    /// The kernel refused to let us sleep or to wake the peer.
    Futex(Errno),
}

/// One side's view of the two words.
#[derive(Debug)]
pub(crate) struct Control<'a, W> {
    pub(crate) state: &'a W,
    pub(crate) gate: &'a W,
    pub(crate) role: Role,
}

impl<W: Word> Control<'_, W> {
    /// Hands the window to the peer, and always wakes it: a Go peer looks at the word once and then
    /// sleeps, and nothing in the window tells whether it does.
    ///
    /// All stores to the window that came before are visible to a peer that sees the new state.
    pub(crate) fn give(&self) -> Result<(), Ended> {
        let (mine, theirs) = (self.role.mine(), self.role.theirs());
        // A plain store could overwrite SHUT_DOWN and bring a dead channel back to life.
        // SYNC: hand-over (releases; the peer's acquire is in `is_mine`)
        match self.state.compare_exchange(mine, theirs, AcqRel) {
            Ok(_) => {}
            Err(SHUT_DOWN) => return Err(self.end(Ended::Shutdown)),
            Err(other) => return Err(self.end(Ended::BadState(other))),
        }
        let woken = self.state.wake(1);
        woken.map_err(|errno| self.end(Ended::Futex(errno)))
    }

    /// Looks once: is it our turn? `Ok(false)` means the peer still has the window.
    ///
    /// The gate is asked each time, also when the word is ours: after a local shutdown a hostile
    /// peer can go on writing any state it likes.
    pub(crate) fn is_mine(&self) -> Result<bool, Ended> {
        // SYNC: hand-over (acquires; the peer's release is in `give`)
        let state = self.state.load(Acquire);
        if self.is_closing() {
            return Err(Ended::Shutdown);
        }
        match state {
            state if state == self.role.mine() => Ok(true),
            state if state == self.role.theirs() => Ok(false),
            SHUT_DOWN => Err(self.end(Ended::Shutdown)),
            other => Err(self.end(Ended::BadState(other))),
        }
    }

    /// Sleeps until it is our turn.
    pub(crate) fn park(&self) -> Result<(), Ended> {
        // SYNC: gate (either `close` sees ASLEEP and keeps waking us, or this sees its CLOSING, and
        // then so does the look that follows)
        self.gate.fetch_or(ASLEEP, AcqRel);
        let outcome = loop {
            match self.is_mine() {
                Ok(true) => break Ok(()),
                Ok(false) => {
                    if let Err(errno) = self.state.wait(self.role.theirs()) {
                        break Err(self.end(Ended::Futex(errno)));
                    }
                }
                Err(ended) => break Err(ended),
            }
        };
        // SYNC: gate
        let gate = self.gate.fetch_and(!ASLEEP, AcqRel);
        if gate & CLOSING == 0 {
            return outcome;
        }
        // The end came while we slept, perhaps together with a turn, which is refused: a peer that
        // has it back is left alone, because it may not have looked at the reply yet.
        let mine = self.role.mine();
        if self.state.compare_exchange(mine, SHUT_DOWN, AcqRel).is_ok() {
            self.wake_all();
        }
        outcome.and(Err(Ended::Shutdown))
    }

    /// Ends the channel from any thread: local flag first, then the word, then everybody awake.
    ///
    /// One wake is not enough against a hostile peer, nor against the moment between a sleeper's
    /// last look and its sleep: call [`wake_all`](Self::wake_all) until
    /// [`is_asleep`](Self::is_asleep) is false.
    pub(crate) fn close(&self) {
        // SYNC: gate
        self.gate.fetch_or(CLOSING, AcqRel);
        // SYNC: hand-over (a side that sees SHUT_DOWN will not look at the data behind it)
        self.state.swap(SHUT_DOWN, AcqRel);
        self.wake_all();
    }

    /// Sends a local thread that may be asleep away, without a word to a peer that has control: a
    /// reply that was handed over before can still be read. A thread that has left its sleep is
    /// left alone, one that leaves it now refuses the turn that woke it.
    ///
    /// As for [`close`](Self::close), one call may not be enough.
    pub(crate) fn close_if_asleep(&self) {
        // SYNC: gate (one access each, so that either this sees that the thread has left its sleep,
        // or the thread sees CLOSING as it leaves)
        let gate = self
            .gate
            .compare_exchange(ASLEEP, ASLEEP | CLOSING, AcqRel)
            .unwrap_or_else(|found| found);
        if gate & ASLEEP != 0 {
            self.wake_all();
        }
    }

    /// Wakes every thread on the word. All of them, because a hostile peer may have parked any
    /// number of its own there to swallow a single wake.
    pub(crate) fn wake_all(&self) {
        // A failure leaves nothing else to try; the local thread is the one that reports it, from
        // its own sleep.
        let _ = self.state.wake(i32::MAX);
    }

    /// Whether a local thread may still be asleep.
    pub(crate) fn is_asleep(&self) -> bool {
        // SYNC: gate
        self.gate.load(Acquire) & ASLEEP != 0
    }

    /// Whether this side has ended.
    pub(crate) fn is_closing(&self) -> bool {
        // Relaxed: seeing the flag late is seeing it at the next turn; nothing is read behind it.
        self.gate.load(Relaxed) & CLOSING != 0
    }

    /// Ends the channel because of `why`, and lets the peer know.
    pub(crate) fn end(&self, why: Ended) -> Ended {
        self.close();
        why
    }
}
