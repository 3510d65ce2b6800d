//! The tracer of one thread, that answers one of its system calls in the kernel's place.

use std::time::Duration;

use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// A system call that is not made, and what is answered instead.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Injection {
    pub(crate) number: i64,
    /// Which of the calls with the number, from 0; `None` for all of them.
    pub(crate) occurrence: Option<usize>,
    pub(crate) errno: Errno,
}

/// A thread that is traced, at rest in the system call that it waits in for its next work.
pub(crate) struct Traced {
    thread: Pid,
    /// That call: its number and its first argument, a descriptor.
    rest: (i64, u64),
    /// The descriptor that it answers at.
    answers_at: u64,
}

/// What a thread has done between one rest and the next.
#[derive(Debug, Default)]
pub(crate) struct Trail {
    /// The numbers of the calls to the host, in order.
    pub(crate) calls: Vec<i64>,
    /// How many of them were answered by the tracer, but for those that always are.
    pub(crate) injected: usize,
    /// It has ended.
    pub(crate) ended: bool,
}

/// By these it is woken and answers, when they are for the descriptors that it does that at.
const TALK: [i64; 10] = [
    libc::SYS_recvmsg,
    libc::SYS_recvfrom,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_poll,
    libc::SYS_shutdown,
];
const ANSWER: [i64; 4] = [
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_write,
    libc::SYS_writev,
];

/// What threads are made of and not the back end's: memory, where the only answer to a failure is the
/// end of the process; locks, signals and the clock, which do not fail.
const RUNTIME: [i64; 18] = [
    libc::SYS_brk,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_madvise,
    libc::SYS_mprotect,
    libc::SYS_futex,
    libc::SYS_futex_waitv,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_sched_yield,
    libc::SYS_clock_gettime,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_exit,
    libc::SYS_rseq,
];

fn wait(thread: Pid) -> nix::Result<WaitStatus> {
    waitpid(thread, Some(WaitPidFlag::__WALL))
}

const F_GETFD: u32 = libc::F_GETFD.unsigned_abs();

/// How often a thread is looked at, a moment apart, before it is taken to be at work for ever.
const LOOKS: usize = 20_000;

impl Traced {
    /// Stops the thread once it waits for work. It answers at the descriptor that it waits at, or at
    /// `answers_at`.
    ///
    /// # Errors
    /// EPERM if it may not be traced; EBUSY if it does not come to rest.
    pub(crate) fn seize(thread: Pid, answers_at: Option<u64>) -> nix::Result<Traced> {
        /// What the kernel has in the place of a result while a call waits, as ERESTARTSYS.
        const INTERRUPTED: std::ops::RangeInclusive<i64> = -516..=-512;
        ptrace::seize(thread, Options::PTRACE_O_TRACESYSGOOD)?;
        for _ in 0..LOOKS {
            ptrace::interrupt(thread)?;
            wait(thread)?;
            let registers = ptrace::getregs(thread)?;
            let number = registers.orig_rax.cast_signed();
            let waits = INTERRUPTED.contains(&registers.rax.cast_signed());
            if waits && [libc::SYS_recvmsg, libc::SYS_read].contains(&number) {
                return Ok(Traced {
                    thread,
                    rest: (number, registers.rdi),
                    answers_at: answers_at.unwrap_or(registers.rdi),
                });
            }
            ptrace::cont(thread, None)?;
            std::thread::sleep(Duration::from_micros(50));
        }
        Err(Errno::EBUSY)
    }

    /// Lets it work until it has answered and rests again, or ends. It is traced no more then. A call
    /// that several injections are for is answered by the first.
    ///
    /// # Errors
    /// As ptrace(2) and waitpid(2).
    pub(crate) fn follow(self, injections: &[Injection]) -> nix::Result<Trail> {
        let mut trail = Trail::default();
        let mut has_answered = false;
        // What the call that has begun is answered with.
        let mut answer: Option<Errno> = None;
        let mut signal = None;
        loop {
            ptrace::syscall(self.thread, signal.take())?;
            match wait(self.thread)? {
                WaitStatus::PtraceSyscall(_) => {}
                WaitStatus::Exited(..) | WaitStatus::Signaled(..) => {
                    trail.ended = true;
                    return Ok(trail);
                }
                WaitStatus::Stopped(_, delivered) => {
                    signal = Some(delivered);
                    continue;
                }
                _ => continue,
            }
            let mut registers = ptrace::getregs(self.thread)?;
            if ptrace::syscall_info(self.thread)?.op != libc::PTRACE_SYSCALL_INFO_ENTRY {
                if let Some(errno) = answer.take() {
                    registers.rax = (-i64::from(errno as i32)).cast_unsigned();
                    ptrace::setregs(self.thread, registers)?;
                }
                continue;
            }
            let (number, at) = (registers.orig_rax.cast_signed(), registers.rdi);
            if TALK.contains(&number) && (at == self.rest.1 || at == self.answers_at) {
                if has_answered && (number, at) == self.rest {
                    ptrace::detach(self.thread, None)?;
                    return Ok(trail);
                }
                has_answered |= at == self.answers_at && ANSWER.contains(&number);
                continue;
            }
            if is_runtimes(&registers) {
                continue;
            }
            let occurrence = trail.calls.iter().filter(|made| **made == number).count();
            trail.calls.push(number);
            let meant = |injection: &&Injection| {
                injection.number == number
                    && injection.occurrence.is_none_or(|nth| nth == occurrence)
            };
            let Some(injection) = injections.iter().find(meant) else {
                continue;
            };
            trail.injected += usize::from(injection.occurrence.is_some());
            answer = Some(injection.errno);
            // A close(2) that fails has closed all the same.
            if number != libc::SYS_close {
                registers.orig_rax = u64::MAX;
                ptrace::setregs(self.thread, registers)?;
            }
        }
    }
}

/// Whether the call that begins is not the back end's.
fn is_runtimes(registers: &libc::user_regs_struct) -> bool {
    let number = registers.orig_rax.cast_signed();
    let has = |flag: i32| registers.r10 & u64::from(flag.unsigned_abs()) != 0;
    // Memory that is mapped from no file; what debug builds ask before they close.
    let anonymous = number == libc::SYS_mmap && has(libc::MAP_ANONYMOUS);
    let checks = number == libc::SYS_fcntl && registers.rsi == u64::from(F_GETFD);
    anonymous || checks || RUNTIME.contains(&number)
}
