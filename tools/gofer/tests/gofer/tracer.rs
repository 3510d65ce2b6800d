//! The tracer of a gofer, which looks at it before the first byte of a client is read.

use std::collections::HashMap;
use std::process::Child;

use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// What a program waits behind until a line comes over its stdin, so that it is traced from its start.
pub(crate) const HELD: [&str; 4] = ["/bin/sh", "-c", "read _ && exec \"$@\"", "sh"];

/// What sockets are read by, and no files.
const READS: [i64; 3] = [libc::SYS_recvmsg, libc::SYS_recvmmsg, libc::SYS_recvfrom];

/// Lets a held gofer go with `release`, which sends what it is to read first, and ends it when one call of a
/// thread has read `length` bytes. Returns what `look` saw when that thread was started or, if it is the
/// first one, when the call began: whatever other threads do meanwhile comes too late to be seen.
///
/// What is in force stays in force, so another call that reads as much can only be too early for it.
///
/// # Panics
/// If it ends by itself.
pub(crate) fn before_first_read<T>(
    gofer: Child,
    length: u64,
    release: impl FnOnce(),
    look: impl Fn(u32) -> T,
) -> T {
    let pid = Pid::from_raw(gofer.id().try_into().unwrap());
    // It does not outlive a test that fails.
    let options =
        Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACECLONE | Options::PTRACE_O_EXITKILL;
    ptrace::seize(pid, options).unwrap();
    ptrace::interrupt(pid).unwrap();
    waitpid(pid, Some(WaitPidFlag::__WALL)).unwrap();
    ptrace::syscall(pid, None).unwrap();
    release();
    let (mut started, mut begun) = (HashMap::new(), HashMap::new());
    let seen = loop {
        let (thread, signal) = match stopped() {
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
    };
    kill(pid, Signal::SIGKILL).unwrap();
    while stopped().pid() != Some(pid) {}
    seen
}

/// What has become of a thread that this one traces. Other tests wait for their own.
fn stopped() -> WaitStatus {
    waitpid(None, Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD)).unwrap()
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
