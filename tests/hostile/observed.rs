//! A process as `/proc` shows it.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

/// What a process holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Holdings {
    /// What its descriptors lead to, sorted.
    pub(crate) descriptors: Vec<String>,
    pub(crate) threads: usize,
}

/// How a child of this process has ended, if it has. It can be waited for all the same.
pub(crate) fn end(process: u32) -> Option<WaitStatus> {
    let id = Id::Pid(Pid::from_raw(process.try_into().ok()?));
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    waitid(id, flags)
        .ok()
        .filter(|status| *status != WaitStatus::StillAlive)
}

fn proc(process: u32, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{process}/{name}"))
}

/// What `process` holds now; nothing when it is gone.
pub(crate) fn holdings(process: u32) -> Holdings {
    let entries = fs::read_dir(proc(process, "fd")).into_iter().flatten();
    let mut descriptors: Vec<_> = entries
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .map(|target| target.display().to_string())
        .collect();
    descriptors.sort();
    Holdings {
        descriptors,
        threads: fs::read_dir(proc(process, "task")).map_or(0, Iterator::count),
    }
}

/// Whether this process may see what `process` holds: one that is not dumpable shows it to root alone.
pub(crate) fn shows_holdings(process: u32) -> bool {
    fs::read_dir(proc(process, "fd")).is_ok()
}

/// The most memory that the process ever had resident, in bytes, shared windows included.
pub(crate) fn peak_memory(process: u32) -> u64 {
    lines(process, "status", &["VmHWM:"])
}

/// The memory that the process has resident now, in bytes, shared windows included. What is mapped from
/// files, as its own code is, comes and goes as it is used, and is left out. 0 where the kernel does not
/// tell; who may see what the process holds may see this as well.
///
/// Counted page by page, with what is shared divided by those who map it: `status` is off by up to some
/// dozens of pages for each CPU (Linux 6.2 to 6.15).
pub(crate) fn memory(process: u32) -> u64 {
    lines(process, "smaps_rollup", &["Anonymous:", "Pss_Shmem:"])
}

/// The sum of lines of a file in `/proc/PID`, in bytes.
fn lines(process: u32, file: &str, names: &[&str]) -> u64 {
    let text = fs::read_to_string(proc(process, file)).unwrap_or_default();
    let kib = text.lines().filter_map(|line| {
        let rest = names.iter().find_map(|name| line.strip_prefix(name))?;
        rest.split_whitespace().next()?.parse::<u64>().ok()
    });
    kib.sum::<u64>() << 10
}

/// The CPU time of the threads that are running, to the nanosecond.
pub(crate) fn cpu_time(process: u32) -> Duration {
    let threads = fs::read_dir(proc(process, "task")).into_iter().flatten();
    threads
        .filter_map(|thread| {
            let text = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
            let nanos = text.split_whitespace().next()?.parse().ok()?;
            Some(Duration::from_nanos(nanos))
        })
        .sum()
}
