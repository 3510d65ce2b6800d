#![expect(unsafe_code, reason = "the futex calls")]
//! The system calls behind [`Word`], over the word that really lies in the window.
//!
//! Never the PRIVATE variants for that: those name the word by address, a shared one by file and offset,
//! and a peer in another process would sleep under a different name than the one we wake.
//!
//! Whoever has the memory decides more than what is in it. FUTEX_REQUEUE moves all who sleep on a word to
//! another one, of any process, and a thread in FUTEX_WAIT_REQUEUE_PI in front of them has each FUTEX_WAKE
//! fail. So a thread never sleeps on the peer's word alone, but also on one that the peer does not have.

use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::time::TimeSpec;

use crate::control::Word;

/// When a thread looks again by itself where the kernel lets it sleep on one word only.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// One word of futex_waitv(2), as the kernel has it.
#[repr(C)]
struct Waiter {
    value: u64,
    address: u64,
    flags: u32,
    reserved: u32,
}

impl Waiter {
    fn new(word: &AtomicU32, expected: u32, flags: i32) -> Waiter {
        Waiter {
            value: expected.into(),
            address: word.as_ptr().expose_provenance() as u64,
            flags: (libc::FUTEX2_SIZE_U32 | flags).cast_unsigned(),
            reserved: 0,
        }
    }
}

/// Returning means "look again", not "it changed": a signal, a stray wake, a word that had changed
/// already and the end of the time all look the same.
fn look_again(result: libc::c_long) -> Result<(), Errno> {
    match Errno::result(result) {
        Ok(_) | Err(Errno::EAGAIN | Errno::EINTR | Errno::ETIMEDOUT) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// futex_waitv(2), Linux 5.16: sleeps while `word` holds `expected` and `own`, which no other process
/// has, holds `held`.
fn wait_for_either(
    (word, expected): (&AtomicU32, u32),
    (own, held): (&AtomicU32, u32),
) -> Result<(), Errno> {
    let waiters = [
        Waiter::new(word, expected, 0),
        Waiter::new(own, held, libc::FUTEX2_PRIVATE),
    ];
    // SAFETY: futex_waitv wants
    // - a readable array of as many `struct futex_waitv` as is said: `Waiter` has its layout, and
    //   `waiters` lives across the call;
    // - in each the address of an aligned, mapped `u32`: `word` and `own` are references to such;
    // - no flags, and a null timeout, with which the clock is not looked at;
    // and reads the words atomically, which is all an `AtomicU32` asks for.
    look_again(unsafe {
        libc::syscall(
            libc::SYS_futex_waitv,
            waiters.as_ptr(),
            waiters.len(),
            0,
            ptr::null::<libc::timespec>(),
            libc::CLOCK_MONOTONIC,
        )
    })
}

/// futex(word, FUTEX_WAIT, expected, limit): sleeps while `word` holds `expected`, for `limit` at most.
fn wait_for(word: &AtomicU32, expected: u32, limit: Duration) -> Result<(), Errno> {
    let limit = TimeSpec::from_duration(limit);
    // SAFETY: FUTEX_WAIT wants
    // - an aligned, mapped `u32` for the time of the call: `word` is a reference to one;
    // - a null timeout, or a readable timespec: `limit` lives across the call;
    // and reads the word atomically, which is all an `AtomicU32` asks for.
    look_again(unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT,
            expected,
            ptr::from_ref(limit.as_ref()),
        )
    })
}

/// futex(word, FUTEX_WAKE, count): wakes up to `count` sleepers, in any process unless `private`, and says
/// how many.
fn wake(word: &AtomicU32, count: i32, private: i32) -> Result<u32, Errno> {
    // SAFETY: FUTEX_WAKE wants an aligned, mapped `u32` (`word` is a reference to one), uses only
    // its address, and ignores the remaining arguments.
    let result = unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAKE | private,
            count,
        )
    };
    Errno::result(result).map(|woken| u32::try_from(woken).unwrap_or(u32::MAX))
}

impl Word for AtomicU32 {
    #[inline]
    fn load(&self, order: Ordering) -> u32 {
        AtomicU32::load(self, order)
    }

    #[inline]
    fn store(&self, to: u32, order: Ordering) {
        AtomicU32::store(self, to, order);
    }

    #[inline]
    fn compare_exchange(&self, from: u32, to: u32, order: Ordering) -> Result<u32, u32> {
        AtomicU32::compare_exchange(self, from, to, order, Ordering::Relaxed)
    }

    #[inline]
    fn swap(&self, to: u32, order: Ordering) -> u32 {
        AtomicU32::swap(self, to, order)
    }

    #[inline]
    fn fetch_or(&self, bits: u32, order: Ordering) -> u32 {
        AtomicU32::fetch_or(self, bits, order)
    }

    #[inline]
    fn fetch_and(&self, bits: u32, order: Ordering) -> u32 {
        AtomicU32::fetch_and(self, bits, order)
    }

    fn wait(&self, expected: u32, own: &AtomicU32, held: u32) -> Result<(), Errno> {
        /// The kernel, or a filter that this process was given, does not know the call.
        static IS_MISSING: AtomicBool = AtomicBool::new(false);
        if !IS_MISSING.load(Ordering::Relaxed) {
            match wait_for_either((self, expected), (own, held)) {
                Err(Errno::ENOSYS | Errno::EPERM) => IS_MISSING.store(true, Ordering::Relaxed),
                outcome => return outcome,
            }
        }
        wait_for(self, expected, LOOK_AGAIN)
    }

    fn wake(&self, count: i32) -> Result<u32, Errno> {
        wake(self, count, 0)
    }

    fn wake_own(&self) {
        // There is nothing else to try.
        let _ = wake(self, i32::MAX, libc::FUTEX_PRIVATE_FLAG);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::Ordering::{Relaxed, SeqCst};
    use std::thread;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::control::{CLIENT_ACTIVE, Control, Ended, Role};

    const AMPLE: Duration = Duration::from_secs(1);

    #[test]
    fn a_changed_word_is_not_slept_on() {
        let (one, other) = (AtomicU32::new(1), AtomicU32::new(1));
        assert_eq!(wait_for_either((&one, 0), (&other, 1)), Ok(()));
        assert_eq!(wait_for_either((&one, 1), (&other, 0)), Ok(()));
        assert_eq!(wait_for(&one, 0, AMPLE), Ok(()));
        assert_eq!(wake(&one, i32::MAX, 0), Ok(0));
    }

    /// futex(from, FUTEX_CMP_REQUEUE, 0, to): has all who sleep on `from` sleep on `to`, and says how many
    /// these are.
    fn move_sleepers(from: &AtomicU32, to: &AtomicU32) -> i64 {
        // SAFETY: FUTEX_CMP_REQUEUE wants two aligned, mapped words, both of which are references, and
        // reads the first one atomically.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                from.as_ptr(),
                libc::FUTEX_CMP_REQUEUE,
                0,
                i64::from(i32::MAX),
                to.as_ptr(),
                from.load(SeqCst),
            )
        }
    }

    /// Runs `sleep`, which sleeps on `word`, and moves it to another word, from which nobody wakes it until
    /// `end` has had ten times the time it needs. Returns what it came to, and whether by itself.
    fn moved_away<R: Send>(
        word: &AtomicU32,
        sleep: impl FnOnce() -> R + Send,
        end: impl Fn(),
    ) -> (R, bool) {
        let elsewhere = AtomicU32::new(0);
        thread::scope(|scope| {
            let victim = scope.spawn(sleep);
            while move_sleepers(word, &elsewhere) == 0 {
                thread::yield_now();
            }
            assert_eq!(wake(word, i32::MAX, 0), Ok(0), "it sleeps elsewhere");
            let since = Instant::now();
            while !victim.is_finished() && since.elapsed() < 10 * AMPLE {
                end();
                thread::sleep(Duration::from_millis(1));
            }
            let by_itself = victim.is_finished();
            wake(&elsewhere, i32::MAX, 0).unwrap();
            (victim.join().unwrap(), by_itself)
        })
    }

    #[test]
    fn a_sleeper_that_the_peer_has_moved_away_hears_of_the_end() {
        let (state, gate) = (AtomicU32::new(CLIENT_ACTIVE), AtomicU32::new(0));
        let control = Control {
            state: &state,
            gate: &gate,
            role: Role::Server,
            flags: None,
        };
        let end = || {
            control.close();
            // What the peer writes there once more.
            state.store(CLIENT_ACTIVE, SeqCst);
        };
        let parked = moved_away(&state, || control.park(1), end);
        assert_eq!(parked, (Err(Ended::Shutdown), true));
    }

    #[test]
    fn a_sleeper_that_has_one_word_only_looks_again() {
        let state = AtomicU32::new(CLIENT_ACTIVE);
        let sleep = || wait_for(&state, CLIENT_ACTIVE, AMPLE);
        assert_eq!(moved_away(&state, sleep, || ()), (Ok(()), true));
    }

    /// Threads of a hostile peer that never leave the word, whatever it says, in front of the one
    /// that has to be woken; and the word never says anything but "sleep".
    #[test]
    fn a_wake_cannot_be_swallowed_by_other_sleepers() {
        const CROWD: u32 = 64;
        let (state, gate) = (AtomicU32::new(CLIENT_ACTIVE), AtomicU32::new(0));
        let (over, arrived) = (AtomicBool::new(false), AtomicU32::new(0));
        let control = Control {
            state: &state,
            gate: &gate,
            role: Role::Server,
            flags: None,
        };
        thread::scope(|scope| {
            for _ in 0..CROWD {
                scope.spawn(|| {
                    arrived.fetch_add(1, Relaxed);
                    while !over.load(SeqCst) {
                        wait_for(&state, CLIENT_ACTIVE, 100 * AMPLE).unwrap();
                    }
                });
            }
            while arrived.load(Relaxed) < CROWD {
                thread::yield_now();
            }
            let victim = scope.spawn(|| control.park(1));
            while !control.is_asleep() {
                thread::yield_now();
            }
            control.close();
            // Fewer wakes than the crowd has heads; each is given ample time to be noticed, and all
            // but the first are for a victim that was still on its way into the kernel.
            let mut wakes = 0;
            while control.is_asleep() && wakes < CROWD / 4 {
                state.store(CLIENT_ACTIVE, SeqCst);
                control.wake_all();
                wakes += 1;
                let started = Instant::now();
                while control.is_asleep() && started.elapsed() < AMPLE {
                    thread::yield_now();
                }
            }
            let acknowledged = !control.is_asleep();

            over.store(true, SeqCst);
            state.store(u32::MAX, SeqCst);
            wake(&state, i32::MAX, 0).unwrap();
            assert!(acknowledged, "still asleep after {wakes} wakes");
            assert_eq!(victim.join().unwrap(), Err(Ended::Shutdown));
        });
    }
}
