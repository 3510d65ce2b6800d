#![forbid(unsafe_code)]
//! Who may use the window: the hand-over protocol, without the memory it runs on.
//!
//! One shared word says whose turn it is. Everything here is generic over [`Word`], so the very
//! code that moves packets, orderings included, is also what `tests/loom.rs` explores.
//!
//! Two words matter, and where both sides have agreed on it, two [`Flags`]:
//! - `state`, in the window, written by both processes and never to be believed;
//! - `gate`, in private memory, shared only by the threads of this process: has anybody asked for
//!   the end, and may a thread be asleep? Both questions live in one word so that each side's
//!   read-modify-write is ordered against the other's without sequential consistency.

use std::sync::atomic::Ordering::{self, AcqRel, Acquire, Relaxed, SeqCst};

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

/// Value of a parking flag whose side does not sleep.
pub(crate) const AWAKE: u32 = 0;

/// An atomic `u32` that threads can sleep on.
pub(crate) trait Word {
    /// Atomic load.
    fn load(&self, order: Ordering) -> u32;
    /// Atomic store.
    fn store(&self, to: u32, order: Ordering);
    /// Atomic compare-and-exchange; the failure ordering is relaxed. `Err` holds the value found.
    fn compare_exchange(&self, from: u32, to: u32, order: Ordering) -> Result<u32, u32>;
    /// Atomic exchange, returns the old value.
    fn swap(&self, to: u32, order: Ordering) -> u32;
    /// Atomic or, returns the old value.
    fn fetch_or(&self, bits: u32, order: Ordering) -> u32;
    /// Atomic and, returns the old value.
    fn fetch_and(&self, bits: u32, order: Ordering) -> u32;
    /// Sleeps while the word holds `expected`, and `own` holds `held`. The peer does not reach that one: a
    /// thread that it has moved away from the word (FUTEX_REQUEUE) is woken by [`wake_own`]. May return
    /// early for no reason.
    ///
    /// [`wake_own`]: Word::wake_own
    fn wait(&self, expected: u32, own: &Self, held: u32) -> Result<(), Errno>;
    /// Wakes up to `count` sleepers, and says how many that was.
    fn wake(&self, count: i32) -> Result<u32, Errno>;
    /// Wakes all who sleep with this word as their own.
    fn wake_own(&self);
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

/// The parking flags: each side says in its own whether it sleeps, so that the other can leave out a
/// wake which nobody needs.
///
/// Zero is awake, anything else asleep. To be asleep without having said so would be to sleep for
/// ever, so the two sides cross over: one stores its flag and then reads the state, the other
/// changes the state and then reads the flag. At least one of them sees what the other did if, and
/// only if, all four accesses are sequentially consistent. The flags are no more to be believed
/// than the state: a peer that lies in its own, or writes ours, is woken too often or too rarely.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flags<'a, W> {
    pub(crate) mine: &'a W,
    pub(crate) theirs: &'a W,
}

/// Whether a hand-over had to wake the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Given {
    /// A sleeper was woken.
    Woken,
    /// The kernel was asked to, and found nobody asleep.
    NotAsleep,
    /// The kernel was not asked: the peer said that it is awake.
    Awake,
}

/// One side's view of the words.
#[derive(Debug)]
pub(crate) struct Control<'a, W> {
    pub(crate) state: &'a W,
    pub(crate) gate: &'a W,
    pub(crate) role: Role,
    /// None where they are not agreed upon; then every hand-over wakes.
    pub(crate) flags: Option<Flags<'a, W>>,
}

impl<W: Word> Control<'_, W> {
    /// Hands the window to the peer, and wakes it unless it has said that it is awake: a Go peer
    /// looks at the word once and then sleeps, and nothing in the window tells whether it does.
    ///
    /// All stores to the window that came before are visible to a peer that sees the new state.
    pub(crate) fn give(&self) -> Result<Given, Ended> {
        let (mine, theirs) = (self.role.mine(), self.role.theirs());
        // A plain store could overwrite SHUT_DOWN and bring a dead channel back to life.
        // SYNC: hand-over (releases; the peer's acquire is in `is_mine`)
        // SYNC: parking (state, then flag; the peer's flag, then state is in `park`)
        match self.state.compare_exchange(mine, theirs, SeqCst) {
            Ok(_) => {}
            Err(SHUT_DOWN) => return Err(self.end(Ended::Shutdown)),
            Err(other) => return Err(self.end(Ended::BadState(other))),
        }
        if let Some(flags) = &self.flags
            && flags.theirs.load(SeqCst) == AWAKE
        {
            return Ok(Given::Awake);
        }
        match self.state.wake(1) {
            Ok(0) => Ok(Given::NotAsleep),
            Ok(_) => Ok(Given::Woken),
            Err(errno) => Err(self.end(Ended::Futex(errno))),
        }
    }

    /// What the peer's flag says: the CPU that it sleeps on, if it sleeps. Not to be believed.
    pub(crate) fn peer_sleeps_on(&self) -> Option<u32> {
        // Relaxed: nothing depends on whether this is late.
        self.flags.as_ref()?.theirs.load(Relaxed).checked_sub(1)
    }

    /// Looks once: is it our turn? `Ok(false)` means the peer still has the window.
    ///
    /// A server asks the gate each time, also when the word is its own: after a local shutdown a
    /// hostile client can go on sending requests. A client takes a reply that is there: the server
    /// has done what it was asked to, and may have hung up since. It cannot be kept busy that way,
    /// since it sends nothing more and so waits for nothing more.
    pub(crate) fn is_mine(&self) -> Result<bool, Ended> {
        self.look(Acquire)
    }

    fn look(&self, order: Ordering) -> Result<bool, Ended> {
        // SYNC: hand-over (acquires; the peer's release is in `give`)
        let state = self.state.load(order);
        if self.is_closing() {
            return match self.role {
                Role::Client if self.is_answered() => Ok(true),
                // `close` may have found the word ours and left it alone, just before it was given.
                Role::Client => Err(self.end(Ended::Shutdown)),
                Role::Server => Err(Ended::Shutdown),
            };
        }
        match state {
            state if state == self.role.mine() => Ok(true),
            state if state == self.role.theirs() => Ok(false),
            SHUT_DOWN => Err(self.end(Ended::Shutdown)),
            other => Err(self.end(Ended::BadState(other))),
        }
    }

    /// Whether the window is ours in spite of a local shutdown.
    fn is_answered(&self) -> bool {
        // SYNC: gate (what the server did before `close` was called must be seen now)
        self.gate.load(Acquire);
        // SYNC: hand-over (as in `look`)
        self.state.load(Acquire) == self.role.mine()
    }

    /// Sleeps until it is our turn, with `asleep` in our flag if there are flags: not [`AWAKE`].
    pub(crate) fn park(&self, asleep: u32) -> Result<(), Ended> {
        // SYNC: gate (either `close` sees ASLEEP and keeps waking us, or this sees its CLOSING, and
        // then so does the look that follows)
        self.gate.fetch_or(ASLEEP, AcqRel);
        if let Some(flags) = &self.flags {
            // SYNC: parking (flag, then state; the peer's state, then flag is in `give`)
            flags.mine.store(asleep, SeqCst);
        }
        let outcome = loop {
            match self.look(SeqCst) {
                Ok(true) => break Ok(()),
                Ok(false) => {
                    let theirs = self.role.theirs();
                    if let Err(errno) = self.state.wait(theirs, self.gate, ASLEEP) {
                        break Err(self.end(Ended::Futex(errno)));
                    }
                }
                Err(ended) => break Err(ended),
            }
        };
        if let Some(flags) = &self.flags {
            // Relaxed: a peer that sees this late wakes us once too often.
            flags.mine.store(AWAKE, Relaxed);
        }
        // SYNC: gate
        let gate = self.gate.fetch_and(!ASLEEP, AcqRel);
        if gate & CLOSING == 0 || (self.role == Role::Client && outcome.is_ok()) {
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
    /// A reply that has just come is left in a client's window: see [`is_mine`](Self::is_mine). The
    /// thread that uses this end tells the server when it next waits in vain, is used again or
    /// dropped, by [`mark`](Self::mark).
    ///
    /// One wake is not enough against a hostile peer, nor against the moment between a sleeper's
    /// last look and its sleep: call [`wake_all`](Self::wake_all) until
    /// [`is_asleep`](Self::is_asleep) is false.
    pub(crate) fn close(&self) {
        // SYNC: gate
        self.gate.fetch_or(CLOSING, AcqRel);
        // SYNC: hand-over (a side that sees SHUT_DOWN will not look at the data behind it)
        match self.role {
            Role::Server => {
                self.state.swap(SHUT_DOWN, AcqRel);
            }
            // Whatever else is found there, nobody sleeps on it any more.
            Role::Client => {
                let _ = self
                    .state
                    .compare_exchange(self.role.theirs(), SHUT_DOWN, AcqRel);
            }
        }
        self.wake_all();
    }

    /// Ends the channel for the thread that uses this end, which wants nothing from the window.
    pub(crate) fn mark(&self) {
        // SYNC: gate
        self.gate.fetch_or(CLOSING, AcqRel);
        // SYNC: hand-over (as in `close`)
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
    /// number of its own there to swallow a single wake. Those of this process also by the gate: the
    /// peer may have moved them from the word to another one.
    pub(crate) fn wake_all(&self) {
        // A failure leaves nothing else to try; the local thread is the one that reports it, from
        // its own sleep.
        let _ = self.state.wake(i32::MAX);
        self.gate.wake_own();
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
        self.mark();
        why
    }
}
