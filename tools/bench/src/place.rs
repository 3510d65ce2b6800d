//! Which CPUs a server and its clients run on.

use std::fmt;
use std::io;
use std::str::FromStr;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Where the two processes run, relative to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    /// Wherever the scheduler puts them.
    Free,
    /// On one CPU.
    Same,
    /// On one CPU each.
    Apart,
}

#[derive(Debug, thiserror::Error)]
#[error("use `free`, `same` or `apart`")]
pub(crate) struct NoPlacement;

impl FromStr for Placement {
    type Err = NoPlacement;

    fn from_str(word: &str) -> Result<Placement, NoPlacement> {
        match word {
            "free" => Ok(Placement::Free),
            "same" => Ok(Placement::Same),
            "apart" => Ok(Placement::Apart),
            _ => Err(NoPlacement),
        }
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Placement::Free => "free",
            Placement::Same => "same",
            Placement::Apart => "apart",
        })
    }
}

/// The CPUs that this process was started with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cpus {
    all: CpuSet,
    first: usize,
    second: Option<usize>,
}

impl Cpus {
    /// Looks at the affinity mask of the calling thread.
    pub(crate) fn usable() -> io::Result<Cpus> {
        let all = sched_getaffinity(None)?;
        let mut usable = (0..CpuSet::MAX_CPU).filter(|cpu| all.is_set(*cpu));
        Ok(Cpus {
            first: usable.next().unwrap_or_default(),
            second: usable.next(),
            all,
        })
    }

    /// The first CPU.
    pub(crate) fn first(&self) -> usize {
        self.first
    }

    /// Another one, if there is any.
    pub(crate) fn second(&self) -> Option<usize> {
        self.second
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u32 {
        self.all.count()
    }

    /// Where clients run.
    pub(crate) fn of_client(&self, placement: Placement) -> CpuSet {
        match placement {
            Placement::Free => self.all,
            Placement::Same | Placement::Apart => only(self.first),
        }
    }

    /// Where the server runs; with one CPU nothing is apart.
    pub(crate) fn of_server(&self, placement: Placement) -> CpuSet {
        match placement {
            Placement::Free => self.all,
            Placement::Same => only(self.first),
            Placement::Apart => only(self.second.unwrap_or(self.first)),
        }
    }

    /// Does something with the calling thread on `set`. Threads and processes that are started
    /// meanwhile stay there, and see no other CPUs.
    pub(crate) fn during<T>(&self, set: &CpuSet, act: impl FnOnce() -> T) -> io::Result<T> {
        move_to(set)?;
        let done = act();
        move_to(&self.all)?;
        Ok(done)
    }
}

/// Moves the calling thread.
pub(crate) fn move_to(set: &CpuSet) -> io::Result<()> {
    Ok(sched_setaffinity(None, set)?)
}

/// A single CPU.
pub(crate) fn only(cpu: usize) -> CpuSet {
    let mut set = CpuSet::new();
    set.set(cpu);
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_that_are_started_elsewhere_stay_there() {
        let cpus = Cpus::usable().unwrap();
        let there = cpus.of_server(Placement::Apart);
        let inherited = cpus
            .during(&there, || {
                std::thread::spawn(|| sched_getaffinity(None).unwrap())
                    .join()
                    .unwrap()
            })
            .unwrap();
        assert_eq!(inherited, there);
        assert_eq!(inherited.count(), 1);
        assert_eq!(sched_getaffinity(None).unwrap(), cpus.all);
    }
}
