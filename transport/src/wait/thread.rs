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
    /// Goes to another CPU than this one, and may be brought back later. Returns whether it could.
    fn leave(&self, cpu: usize) -> bool;
    /// How often it has lost its CPU to another thread.
    fn preemptions(&self) -> i64;
}

/// Whichever thread calls.
#[derive(Debug)]
pub(super) struct ThisThread;

impl Thread for ThisThread {
    fn two_cpus(&self) -> Option<[usize; 2]> {
        let usable = sched_getaffinity(Pid::from_raw(0)).ok()?;
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
        let mut set = CpuSet::new();
        cpus.iter().all(|cpu| set.set(*cpu).is_ok())
            && sched_setaffinity(Pid::from_raw(0), &set).is_ok()
    }

    fn leave(&self, cpu: usize) -> bool {
        let this = Pid::from_raw(0);
        let Ok(usable) = sched_getaffinity(this) else {
            return false;
        };
        let mut others = usable;
        others.unset(cpu).is_ok()
            && sched_setaffinity(this, &others).is_ok()
            && sched_setaffinity(this, &usable).is_ok()
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

        fn leave(&self, cpu: usize) -> bool {
            self.0.cpu.set(cpu + 1);
            true
        }

        fn preemptions(&self) -> i64 {
            self.0.preemptions.get()
        }
    }
}
