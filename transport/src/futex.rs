#![expect(unsafe_code, reason = "the two futex calls")]
//! The two system calls behind [`Word`], over the word that really lies in the window.
//!
//! Never the PRIVATE variants: those name the word by address, a shared one by file and offset, and
//! a peer in another process would sleep under a different name than the one we wake.

use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::errno::Errno;

use crate::control::Word;

/// futex(word, FUTEX_WAIT, expected, NULL): sleeps while `word` holds `expected`.
///
/// Returning means "look again", not "it changed": a signal, a stray wake and a word that had
/// changed already all look the same.
fn wait(word: &AtomicU32, expected: u32) -> Result<(), Errno> {
    // SAFETY: FUTEX_WAIT wants
    // - an aligned, mapped `u32` for the time of the call: `word` is a reference to one;
    // - a null timeout, or a readable timespec: null;
    // and reads the word atomically, which is all an `AtomicU32` asks for.
    let result = unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT,
            expected,
            ptr::null::<libc::timespec>(),
        )
    };
    match Errno::result(result) {
        Ok(_) | Err(Errno::EAGAIN | Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// futex(word, FUTEX_WAKE, count): wakes up to `count` sleepers, in any process, and says how many.
fn wake(word: &AtomicU32, count: i32) -> Result<u32, Errno> {
    // SAFETY: FUTEX_WAKE wants an aligned, mapped `u32` (`word` is a reference to one), uses only
    // its address, and ignores the remaining arguments.
    let result = unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, count) };
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

    fn wait(&self, expected: u32) -> Result<(), Errno> {
        wait(self, expected)
    }

    fn wake(&self, count: i32) -> Result<u32, Errno> {
        wake(self, count)
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
        let word = AtomicU32::new(1);
        assert_eq!(wait(&word, 0), Ok(()));
        assert_eq!(wake(&word, i32::MAX), Ok(0));
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
                        wait(&state, CLIENT_ACTIVE).unwrap();
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
            wake(&state, i32::MAX).unwrap();
            assert!(acknowledged, "still asleep after {wakes} wakes");
            assert_eq!(victim.join().unwrap(), Err(Ended::Shutdown));
        });
    }
}
