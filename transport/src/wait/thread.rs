#![forbid(unsafe_code)]
//! Where a thread runs, and what can be done about it.

use nix::sched::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use nix::sys::resource::{UsageWho, getrusage};
use nix::unistd::Pid;

/// A thread that can be moved between CPUs.
pub(super) trait Thread {
    /// The CPUs it may run on, if it is two.
    fn two_cpus(&self) -> Option<[usize; 2]>;
    /// The one it runs on.
    fn cpu(&self) -> Option<usize>;
    /// Has it run on none but these. Returns whether it could.
    fn bind(&self, cpus: &[usize]) -> bool;
    /// Has it run on all of these again, which are those that it could run on before it was bound.
    /// Returns whether it could.
    fn release(&self, cpus: &[usize]) -> bool;
    /// Goes to another CPU than this one, and may be brought back later. Returns whether it could.
    fn leave(&self, cpu: usize) -> bool;
    /// How often it has lost its CPU to another thread.
    fn preemptions(&self) -> i64;
}

/// The thread that calls, for sched_setaffinity(2).
const THIS: Pid = Pid::from_raw(0);

fn set_of(cpus: impl IntoIterator<Item = usize>) -> Option<CpuSet> {
    let mut set = CpuSet::new();
    let fit = cpus.into_iter().all(|cpu| set.set(cpu).is_ok());
    fit.then_some(set)
}

/// Has this thread run on the CPUs of `usable` again, all that it could run on before.
///
/// What a thread asks for is remembered: asked for by name, its cpuset's CPUs would be all that it ever
/// gets, also when the cpuset has been given more. So it asks for all that there are, and only if that
/// is too much, since somebody has bound it to less than its cpuset, for those.
fn restore(usable: &CpuSet) -> bool {
    let all = set_of(0..CpuSet::count()).is_some_and(|all| sched_setaffinity(THIS, &all).is_ok());
    (all && sched_getaffinity(THIS) == Ok(*usable)) || sched_setaffinity(THIS, usable).is_ok()
}

/// Whichever thread calls.
#[derive(Debug)]
pub(super) struct ThisThread;

impl Thread for ThisThread {
    fn two_cpus(&self) -> Option<[usize; 2]> {
        let usable = sched_getaffinity(THIS).ok()?;
        let mut cpus = (0..CpuSet::count()).filter(|cpu| usable.is_set(*cpu) == Ok(true));
        match (cpus.next(), cpus.next(), cpus.next()) {
            (Some(one), Some(other), None) => Some([one, other]),
            _ => None,
        }
    }

    fn cpu(&self) -> Option<usize> {
        sched_getcpu().ok()
    }

    fn bind(&self, cpus: &[usize]) -> bool {
        set_of(cpus.iter().copied()).is_some_and(|set| sched_setaffinity(THIS, &set).is_ok())
    }

    fn release(&self, cpus: &[usize]) -> bool {
        set_of(cpus.iter().copied()).is_some_and(|set| restore(&set))
    }

    fn leave(&self, cpu: usize) -> bool {
        let Ok(usable) = sched_getaffinity(THIS) else {
            return false;
        };
        let mut others = usable;
        others.unset(cpu).is_ok() && sched_setaffinity(THIS, &others).is_ok() && restore(&usable)
    }

    fn preemptions(&self) -> i64 {
        getrusage(UsageWho::RUSAGE_THREAD).map_or(0, |usage| usage.involuntary_context_switches())
    }
}

#[cfg(test)]
pub(super) use fake::{Fake, Fate};

#[cfg(test)]
mod fake {
    use std::cell::{Cell, RefCell};
    use std::rc::Rc;

    use super::Thread;

    /// What a thread was told to do, and what happens to it.
    #[derive(Default)]
    pub(in crate::wait) struct Fate {
        pub(in crate::wait) cpu: Cell<usize>,
        pub(in crate::wait) binds: RefCell<Vec<Vec<usize>>>,
        pub(in crate::wait) preemptions: Cell<i64>,
    }

    /// The thread, and the CPUs it may run on if it is two.
    pub(in crate::wait) struct Fake(
        pub(in crate::wait) Rc<Fate>,
        pub(in crate::wait) Option<[usize; 2]>,
    );

    impl Thread for Fake {
        fn two_cpus(&self) -> Option<[usize; 2]> {
            self.1
        }

        fn cpu(&self) -> Option<usize> {
            Some(self.0.cpu.get())
        }

        fn bind(&self, cpus: &[usize]) -> bool {
            if let [cpu] = cpus {
                self.0.cpu.set(*cpu);
            }
            self.0.binds.borrow_mut().push(cpus.to_vec());
            true
        }

        fn release(&self, cpus: &[usize]) -> bool {
            self.bind(cpus)
        }

        fn leave(&self, cpu: usize) -> bool {
            self.0.cpu.set(cpu + 1);
            true
        }

        fn preemptions(&self) -> i64 {
            self.0.preemptions.get()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usable() -> Vec<usize> {
        let set = sched_getaffinity(THIS).unwrap();
        let is_set = |cpu: &usize| set.is_set(*cpu).unwrap();
        (0..CpuSet::count()).filter(is_set).collect()
    }

    #[test]
    fn where_it_may_run_is_the_same_after_a_move() {
        let before = usable();
        let moved = ThisThread.leave(ThisThread.cpu().unwrap());
        assert_eq!(moved, before.len() > 1);
        assert_eq!(usable(), before);
        assert!(ThisThread.bind(&before[..1]));
        // Somebody has bound it, so it is not free to go wherever its cpuset allows.
        assert!(!ThisThread.leave(before[0]));
        assert_eq!(usable(), before[..1]);
        assert!(ThisThread.release(&before));
        assert_eq!(usable(), before);
    }

    #[test]
    fn less_than_its_cpuset_stays_less() {
        let all = usable();
        for count in 1..=all.len() {
            assert!(ThisThread.bind(&all[..1]));
            assert!(ThisThread.release(&all[..count]));
            assert_eq!(usable(), all[..count]);
        }
    }
}
