//! What processes have used so far, and what they hold.

use std::fs;
use std::io;
use std::ops::{AddAssign, Sub};
use std::time::Duration;

use flipcall::WaitStats;
use lisafs::client::Client;
use nix::sys::resource::{UsageWho, getrusage};
use nix::time::{ClockId, clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

/// CPU time and context switches of a process.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) cpu: Duration,
    /// It went to sleep.
    pub(crate) voluntary: u64,
    /// Somebody else was given the CPU.
    pub(crate) involuntary: u64,
}

impl Usage {
    /// Of this process, threads that have ended included.
    pub(crate) fn own() -> io::Result<Usage> {
        let usage = getrusage(UsageWho::RUSAGE_SELF)?;
        Ok(Usage {
            cpu: clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)?.into(),
            voluntary: u64::try_from(usage.voluntary_context_switches()).unwrap_or_default(),
            involuntary: u64::try_from(usage.involuntary_context_switches()).unwrap_or_default(),
        })
    }

    /// Of another process. Its CPU time is exact, by its clock; the switches are those of the
    /// threads that it has now.
    pub(crate) fn of(pid: Pid) -> io::Result<Usage> {
        let mut usage = Usage {
            cpu: clock_gettime(clock_getcpuclockid(pid)?)?.into(),
            ..Usage::default()
        };
        for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
            // It may end right now.
            let Ok(status) = fs::read_to_string(thread?.path().join("status")) else {
                continue;
            };
            usage.voluntary += field(&status, "voluntary_ctxt_switches:").unwrap_or_default();
            usage.involuntary += field(&status, "nonvoluntary_ctxt_switches:").unwrap_or_default();
        }
        Ok(usage)
    }
}

impl Sub for Usage {
    type Output = Usage;

    fn sub(self, before: Usage) -> Usage {
        Usage {
            cpu: self.cpu.saturating_sub(before.cpu),
            voluntary: self.voluntary.saturating_sub(before.voluntary),
            involuntary: self.involuntary.saturating_sub(before.involuntary),
        }
    }
}

impl AddAssign for Usage {
    fn add_assign(&mut self, more: Usage) {
        self.cpu += more.cpu;
        self.voluntary += more.voluntary;
        self.involuntary += more.involuntary;
    }
}

/// What was used so far, and since `before`. None once it could not be seen.
pub(crate) fn more<T: AddAssign + Sub<Output = T>>(
    sum: Option<T>,
    before: Option<T>,
    after: Option<T>,
) -> Option<T> {
    let mut sum = sum?;
    sum += after? - before?;
    Some(sum)
}

/// How one side waited, over all of its channels.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Waits {
    pub(crate) parks: u64,
    pub(crate) wakes: u64,
    /// Hand-overs that needed none.
    pub(crate) elided_wakes: u64,
    pub(crate) spin_hits: u64,
    pub(crate) spin_misses: u64,
    /// Threads that were moved to another CPU.
    pub(crate) moves: u64,
}

impl Waits {
    /// Of `client` so far.
    pub(crate) fn of(client: &Client) -> Waits {
        let mut waits = Waits::default();
        for channel in client.wait_stats() {
            waits += Waits::from(channel);
        }
        waits
    }

    /// All of them, and what they are called.
    pub(crate) fn events(self) -> [(&'static str, u64); 6] {
        [
            ("parks", self.parks),
            ("wakes", self.wakes),
            ("elided_wakes", self.elided_wakes),
            ("spin_hits", self.spin_hits),
            ("spin_misses", self.spin_misses),
            ("moves", self.moves),
        ]
    }
}

impl From<WaitStats> for Waits {
    fn from(stats: WaitStats) -> Waits {
        Waits {
            parks: stats.parks,
            wakes: stats.wakes,
            elided_wakes: stats.elided_wakes,
            spin_hits: stats.spin_hits,
            spin_misses: stats.spin_misses,
            moves: stats.moves,
        }
    }
}

impl Sub for Waits {
    type Output = Waits;

    fn sub(self, before: Waits) -> Waits {
        Waits {
            parks: self.parks.saturating_sub(before.parks),
            wakes: self.wakes.saturating_sub(before.wakes),
            elided_wakes: self.elided_wakes.saturating_sub(before.elided_wakes),
            spin_hits: self.spin_hits.saturating_sub(before.spin_hits),
            spin_misses: self.spin_misses.saturating_sub(before.spin_misses),
            moves: self.moves.saturating_sub(before.moves),
        }
    }
}

impl AddAssign for Waits {
    fn add_assign(&mut self, more: Waits) {
        self.parks += more.parks;
        self.wakes += more.wakes;
        self.elided_wakes += more.elided_wakes;
        self.spin_hits += more.spin_hits;
        self.spin_misses += more.spin_misses;
        self.moves += more.moves;
    }
}

/// What a process holds, in KiB.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// The most that was ever resident.
    pub(crate) peak: u64,
    /// What is resident of memory that is no file's.
    pub(crate) anonymous: u64,
    pub(crate) threads: u64,
}

impl Memory {
    pub(crate) fn of(pid: Pid) -> Option<Memory> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        Some(Memory {
            peak: field(&status, "VmHWM:")?,
            anonymous: field(&status, "RssAnon:")?,
            threads: field(&status, "Threads:")?,
        })
    }
}

/// The number behind `name` in a status file.
fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_view_of_this_process_agrees() {
        let before = Usage::own().unwrap();
        let other = Usage::of(Pid::this()).unwrap();
        let after = Usage::own().unwrap();
        assert!(before.cpu <= other.cpu && other.cpu <= after.cpu);
        assert!(other.voluntary <= after.voluntary);
        let memory = Memory::of(Pid::this()).unwrap();
        assert!(memory.anonymous > 0 && memory.anonymous <= memory.peak);
        assert!(memory.threads >= 1);
    }

    #[test]
    fn what_could_not_be_seen_once_is_not_known() {
        let used = |parks| {
            Some(Waits {
                parks,
                ..Waits::default()
            })
        };
        let parks = |waits: Option<Waits>| waits.map(|waits| waits.parks);
        assert_eq!(parks(more(used(5), used(10), used(13))), Some(8));
        assert_eq!(parks(more(used(5), None, used(13))), None);
        assert_eq!(parks(more(used(5), used(10), None)), None);
        assert_eq!(parks(more(None, used(10), used(13))), None);
    }

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let status = "nonvoluntary_ctxt_switches:\t7\nvoluntary_ctxt_switches:\t5\nVmHWM:\t12 kB\n";
        assert_eq!(field(status, "voluntary_ctxt_switches:"), Some(5));
        assert_eq!(field(status, "nonvoluntary_ctxt_switches:"), Some(7));
        assert_eq!(field(status, "VmHWM:"), Some(12));
        assert_eq!(field(status, "RssAnon:"), None);
    }
}
