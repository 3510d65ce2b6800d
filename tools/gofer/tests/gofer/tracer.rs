//! The tracer of a gofer, which looks at it before the first byte of a client is read.

use std::collections::HashMap;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::process::PATIENCE;

/// What a program waits behind until a line comes over its stdin, so that it is traced from its start.
pub(crate) const HELD: [&str; 4] = ["/bin/sh", "-c", "read _ && exec \"$@\"", "sh"];

/// What sockets are read by, and no files.
const READS: [i64; 3] = [libc::SYS_recvmsg, libc::SYS_recvmmsg, libc::SYS_recvfrom];

/// What traced threads tell, and that they do not outlive a test that ends.
const OPTIONS: Options = Options::PTRACE_O_TRACESYSGOOD
    .union(Options::PTRACE_O_TRACECLONE)
    .union(Options::PTRACE_O_EXITKILL);

/// Whether this user can trace a child: a security module or a filter may be against it.
pub(crate) fn may_trace() -> bool {
    let mut held = Command::new(HELD[0]);
    held.args(&HELD[1..]).stdin(Stdio::piped());
    let mut held = held.spawn().unwrap();
    let seized = ptrace::seize(pid(&held), OPTIONS);
    held.kill().unwrap();
    held.wait().unwrap();
    !matches!(seized, Err(Errno::EPERM | Errno::ENOSYS))
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id().try_into().unwrap())
}

/// A child that this thread traces. Killed when dropped, and when it takes too long: a tracer waits
/// without a deadline, and so may who is a client of it.
struct Traced {
    pid: Pid,
    over: Option<Sender<()>>,
    watchdog: Option<JoinHandle<()>>,
}

impl Traced {
    fn new(pid: Pid) -> Traced {
        let (over, told) = mpsc::channel();
        let watchdog = thread::spawn(move || {
            if told.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                // It may have ended meanwhile.
                let _ = kill(pid, Signal::SIGKILL);
            }
        });
        Traced {
            pid,
            over: Some(over),
            watchdog: Some(watchdog),
        }
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        // First, or its number could be that of another process.
        drop(self.over.take());
        let _ = self.watchdog.take().map(JoinHandle::join);
        let is_end = |status| match status {
            WaitStatus::Exited(ended, _) | WaitStatus::Signaled(ended, ..) => ended == self.pid,
            _ => false,
        };
        // Unless its end is known already.
        if kill(self.pid, Signal::SIGKILL).is_ok() {
            while stopped().is_ok_and(|status| !is_end(status)) {}
        }
    }
}

/// Lets a held gofer go with `release`, which sends what it is to read first, and ends it when one call of a
/// thread has read `length` bytes. Returns what `look` saw when that thread was started or, if it is the
/// first one, when the call began: whatever other threads do meanwhile comes too late to be seen.
///
/// What is in force stays in force, so another call that reads as much can only be too early for it.
///
/// # Panics
/// If it ends by itself, or has not come to that call after [`PATIENCE`].
pub(crate) fn before_first_read<T>(
    gofer: Child,
    length: u64,
    release: impl FnOnce(),
    look: impl Fn(u32) -> T,
) -> T {
    let pid = pid(&gofer);
    let _traced = Traced::new(pid);
    ptrace::seize(pid, OPTIONS).unwrap();
    ptrace::interrupt(pid).unwrap();
    waitpid(pid, Some(WaitPidFlag::__WALL)).unwrap();
    ptrace::syscall(pid, None).unwrap();
    release();
    let (mut started, mut begun) = (HashMap::new(), HashMap::new());
    loop {
        let (thread, signal) = match stopped().unwrap() {
            WaitStatus::PtraceSyscall(thread) => {
                let (number, result) = call(&ptrace::getregs(thread).unwrap());
                let entry = libc::PTRACE_SYSCALL_INFO_ENTRY;
                if ptrace::syscall_info(thread).unwrap().op != entry {
                    let seen = begun.remove(&thread);
                    if let Some(seen) = seen.filter(|_| result == length) {
                        break started.remove(&thread).unwrap_or(seen);
                    }
                } else if READS.contains(&number.cast_signed()) {
                    begun.insert(thread, look(gofer.id()));
                }
                (thread, None)
            }
            WaitStatus::PtraceEvent(thread, _, libc::PTRACE_EVENT_CLONE) => {
                let new = ptrace::getevent(thread).unwrap();
                started.insert(Pid::from_raw(new.try_into().unwrap()), look(gofer.id()));
                (thread, None)
            }
            WaitStatus::PtraceEvent(thread, ..) => (thread, None),
            WaitStatus::Stopped(thread, signal) => (thread, Some(signal)),
            WaitStatus::Exited(ended, _) | WaitStatus::Signaled(ended, ..) if ended != pid => {
                continue;
            }
            status => panic!("it has not read {length} bytes: {status:?}"),
        };
        ptrace::syscall(thread, signal).unwrap();
    }
}

/// What has become of a thread that this one traces. Other tests wait for their own.
fn stopped() -> nix::Result<WaitStatus> {
    waitpid(None, Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD))
}

/// The number of the system call that a thread is in, and what it returns at its end.
#[cfg(target_arch = "x86_64")]
fn call(registers: &libc::user_regs_struct) -> (u64, u64) {
    (registers.orig_rax, registers.rax)
}

#[cfg(target_arch = "aarch64")]
fn call(registers: &libc::user_regs_struct) -> (u64, u64) {
    (registers.regs[8], registers.regs[0])
}
