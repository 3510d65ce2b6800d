#![forbid(unsafe_code)]
//! How long an adaptive endpoint may spin: what it has learned, and what it can afford.
//!
//! Three rules, applied to one endpoint each. All times are nanoseconds of one clock, given by the
//! caller, so nothing here depends on how fast a machine is.
//!
//! 1. *Experience*, as KVM polls before it halts a CPU. A sleep that is over soon would have been
//!    saved by spinning, so the budget grows; one that lasts long shows that spinning was in vain,
//!    and the budget is gone. A spin that finds nothing although it lasted as long as spins may is
//!    in vain as well, however soon the turn comes then: two threads that share a CPU look like that.
//! 2. *An account.* A wait earns what a sleep costs, plus a multiple of the time spent at work since
//!    the last one. Spinning spends it. So a client that times its requests cannot make a server burn
//!    more than it could by having it woken for each of them, and for its work. A client has asked for
//!    what it waits for, and earns what it can spend.
//! 3. *Preemption.* A thread that loses its CPU while it spins has taken that CPU from somebody,
//!    maybe from the very peer that it waits for. It stops, and the budget stays at nothing for a
//!    while: for longer each time that this happens again, unless spinning was worth it in between.

use crate::control::Role;

/// What one step of growth makes of an empty budget.
const FIRST: u64 = 12_500;

/// What an end can afford.
#[derive(Clone, Copy, Debug)]
struct Means {
    /// The longest spin after little work.
    longest: u64,
    /// What a wait earns, in spinning time.
    grant: u64,
}

/// The longest spin is about what two wake-ups across CPUs take where they are slow, in a virtual machine.
/// The grant is the CPU time that a sleep and the wake-up would cost.
const SERVER: Means = Means {
    longest: 50_000,
    grant: 20_000,
};

/// The longest spin outlasts the reading or writing of 1 MiB. The grant is never used up: nobody makes a
/// client wait but its own requests.
const CLIENT: Means = Means {
    longest: 100_000,
    grant: 100_000,
};

/// A wait that is over within this many longest spins was short. It includes the wake-up, which the
/// spin would have saved: that is why it exceeds the longest spin.
const SOON: u64 = 2;
/// After more work the longest spin is longer, by so many times the work, up to a limit: who reads in
/// large blocks waits for a while, too, and has more to lose by a sleep in between.
const BY_WORK: (u64, u64) = (2, 100_000);

/// What time at work earns.
const PER_WORK: u64 = 8;
/// The most that can be saved up.
pub(super) const SAVINGS: u64 = 200_000;

/// How long the budget stays empty after spinning was found to be wrong: at first, and at most. At
/// the longest, spinning in vain, from the first step of growth to the longest spin, costs one or two per cent
/// of the time after little work, up to three of a client's, and up to four after much: two threads that have come to share
/// a CPU are put apart only while both want to run.
const HOLD: (u64, u64) = (200_000, 10_000_000);
/// If nothing was wrong for this long, the next hold is a first one.
const CALM: u64 = 100_000_000;
/// So is it if spinning has saved so many sleeps in between.
const WORTH: u32 = 16;

/// The budget of one endpoint.
#[derive(Debug)]
pub(super) struct Budget {
    means: Means,
    spin: u64,
    savings: u64,
    /// When the last wait was over, as far as known.
    working_since: Option<u64>,
    /// How long the work before the last wait was.
    work: u64,
    /// How many waits spinning has saved since it was last found to be wrong.
    saved: u32,
    hold: u64,
    held_until: u64,
}

impl Budget {
    /// Nothing learned yet: the first wait sleeps.
    pub(super) fn new(role: Role) -> Budget {
        let means = match role {
            Role::Client => CLIENT,
            Role::Server => SERVER,
        };
        Budget {
            means,
            spin: 0,
            savings: SAVINGS,
            working_since: None,
            work: 0,
            saved: 0,
            hold: 0,
            held_until: 0,
        }
    }

    /// How long the next spin may last; zero for not at all.
    pub(super) fn allowance(&self) -> u64 {
        self.spin.min(self.affordable())
    }

    /// How long a spin may last that does not go by what was learned.
    pub(super) fn affordable(&self) -> u64 {
        self.longest().min(self.savings)
    }

    fn longest(&self) -> u64 {
        let (times, limit) = BY_WORK;
        self.means.longest + self.work.saturating_mul(times).min(limit)
    }

    /// A wait that takes some time has begun by `now`. Waits that are over before anybody looks at
    /// the clock earn nothing and cost nothing: they are part of the work.
    pub(super) fn begin(&mut self, now: u64) {
        self.work = self
            .working_since
            .take()
            .map_or(0, |since| now.saturating_sub(since));
        let earned = self
            .means
            .grant
            .saturating_add(self.work.saturating_mul(PER_WORK));
        self.savings = self.savings.saturating_add(earned).min(SAVINGS);
    }

    /// A wait was over without a sleep.
    pub(super) fn saved(&mut self) {
        self.saved = self.saved.saturating_add(1);
    }

    /// The wait was over at `now`, after `spun` of spinning.
    pub(super) fn hit(&mut self, spun: u64, now: u64) {
        self.saved();
        self.spend(spun);
        self.working_since = Some(now);
    }

    /// A spin of `spun` found nothing.
    pub(super) fn missed(&mut self, spun: u64, now: u64) {
        self.spend(spun);
        let longest = self.longest();
        if self.spin >= longest && spun >= longest {
            self.stop(now);
        }
    }

    /// A spin of `spun` has lost its CPU meanwhile.
    pub(super) fn preempted(&mut self, spun: u64, now: u64) {
        self.spend(spun.min(self.longest()));
        self.stop(now);
    }

    /// The wait was over at `now`, after `waited` in all, of which the end was spent asleep.
    pub(super) fn parked(&mut self, waited: u64, now: u64) {
        self.working_since = Some(now);
        let longest = self.longest();
        if waited > longest.saturating_mul(SOON) {
            self.spin = 0;
        } else if now >= self.held_until {
            self.spin = self.spin.saturating_mul(2).clamp(FIRST, longest);
        }
    }

    /// What was wrong with spinning is no more.
    pub(super) fn forget(&mut self) {
        self.held_until = 0;
        self.spin = self.longest();
    }

    fn spend(&mut self, spun: u64) {
        self.savings = self.savings.saturating_sub(spun);
    }

    fn stop(&mut self, now: u64) {
        let (first, longest) = HOLD;
        let calm = self.saved >= WORTH || now.saturating_sub(self.held_until) >= CALM;
        self.saved = 0;
        self.hold = match calm {
            true => first,
            false => self.hold.saturating_mul(2).clamp(first, longest),
        };
        self.held_until = now.saturating_add(self.hold);
        self.spin = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A budget and the time, which passes as told.
    struct Life {
        budget: Budget,
        now: u64,
    }

    impl Life {
        fn new() -> Life {
            Life::of(Role::Server)
        }

        fn of(role: Role) -> Life {
            Life {
                budget: Budget::new(role),
                now: 1 << 40,
            }
        }

        /// One wait for a turn that comes after `turn`, and then `work`. Returns the time spun.
        fn wait(&mut self, turn: u64, work: u64) -> u64 {
            self.budget.begin(self.now);
            let spun = self.budget.allowance().min(turn);
            self.now += turn;
            if spun > 0 && spun == turn {
                self.budget.hit(spun, self.now);
            } else {
                self.budget.missed(spun, self.now);
                self.budget.parked(turn, self.now);
            }
            self.now += work;
            spun
        }
    }

    #[test]
    fn waits_that_end_soon_make_it_grow_up_to_the_limit() {
        let mut life = Life::new();
        assert_eq!(life.budget.allowance(), 0);
        let grown = [0; 4].map(|_| {
            life.budget.parked(SOON * SERVER.longest, life.now);
            life.budget.allowance()
        });
        assert_eq!(grown, [12_500, 25_000, 50_000, 50_000]);
    }

    #[test]
    fn a_long_wait_makes_it_nothing() {
        let mut life = Life::new();
        life.wait(SOON * SERVER.longest, 0);
        assert_eq!(life.budget.allowance(), FIRST);
        life.wait(SOON * SERVER.longest + 1, 0);
        assert_eq!(life.budget.allowance(), 0);
    }

    /// As of one who reads blocks of 1 MiB: the server takes 60 µs for each, the reader 20 to copy it.
    #[test]
    fn after_much_work_spins_may_be_longer() {
        let mut life = Life::new();
        for _ in 0..10 {
            life.wait(80_000, 20_000);
        }
        assert_eq!(life.wait(80_000, 20_000), 80_000);
        life.wait(80_000, 1 << 50);
        let (_, limit) = BY_WORK;
        life.budget.begin(life.now);
        assert_eq!(life.budget.affordable(), SERVER.longest + limit);
    }

    /// As of one who has blocks of 1 MiB read into its window, and looks at them there.
    #[test]
    fn a_client_spins_for_a_block_however_little_it_does_with_it() {
        let mut life = Life::of(Role::Client);
        for _ in 0..10 {
            life.wait(70_000, 1_000);
        }
        for _ in 0..1_000 {
            assert_eq!(life.wait(70_000, 1_000), 70_000);
        }
    }

    /// Short waits, as a client sees it, in which it spins for nothing.
    #[test]
    fn a_client_whose_answers_take_longer_spins_little() {
        let mut life = Life::of(Role::Client);
        let (start, mut spun) = (life.now, 0);
        for _ in 0..100_000 {
            spun += life.wait(SOON * CLIENT.longest - 10_000, 1_000);
        }
        let share = spun * 1_000 / (life.now - start);
        assert!(share < 30, "{share} thousandths");
    }

    #[test]
    fn waits_within_the_budget_leave_it_alone() {
        let mut life = Life::new();
        life.wait(20_000, 1_000);
        life.wait(20_000, 1_000);
        for _ in 0..1_000 {
            assert_eq!(life.wait(20_000, 1_000), 20_000);
        }
    }

    #[test]
    fn a_peer_that_comes_once_in_a_millisecond_is_never_spun_for() {
        let mut life = Life::new();
        let spun: u64 = (0..1_000).map(|_| life.wait(1_000_000, 1_000)).sum();
        assert_eq!(spun, 0);
    }

    /// The worst that a peer can do: come when the spin is nearly over.
    #[test]
    fn spinning_stays_below_what_waits_and_work_earn() {
        for work in [0, 1_000, 10_000] {
            let mut life = Life::new();
            let (mut spun, mut earned) = (0, SAVINGS);
            for _ in 0..10_000 {
                spun += life.wait(life.budget.allowance().clamp(1, SERVER.longest) - 1, work);
                earned += SERVER.grant + PER_WORK * work;
                assert!(spun <= earned, "{spun} spun, {earned} earned");
            }
            // Ever and ever again the peer came while it was spun for: the bound is not idle.
            assert!(spun > 10_000 * SERVER.grant / 2, "{spun}");
        }
    }

    #[test]
    fn savings_have_a_limit() {
        let mut life = Life::new();
        life.wait(1, 1 << 50);
        life.budget.begin(life.now);
        assert_eq!(life.budget.savings, SAVINGS);
    }

    #[test]
    fn an_empty_account_means_no_spinning() {
        let mut life = Life::new();
        for _ in 0..3 {
            life.budget.parked(SOON * SERVER.longest, life.now);
        }
        life.budget.hit(SAVINGS - 7, life.now);
        assert_eq!(life.budget.allowance(), 7);
        life.budget.hit(7, life.now);
        assert_eq!(life.budget.allowance(), 0);
    }

    /// As two threads do that share a CPU: nothing comes while one spins, all at once when it sleeps.
    #[test]
    fn spins_in_vain_stop_even_if_the_turn_comes_right_after() {
        // After so much work, at most so many thousandths of the time.
        for (work, most) in [(0, 11), (1_000, 20), (50_000, 40)] {
            let mut life = Life::new();
            let mut spun = 0;
            for _ in 0..100_000 {
                life.budget.begin(life.now);
                let spin = life.budget.allowance();
                life.now += spin;
                life.budget.missed(spin, life.now);
                life.now += 2_000;
                life.budget.parked(spin + 2_000, life.now);
                life.now += work;
                spun += spin;
            }
            let share = spun * 1_000 / (life.now - (1 << 40));
            assert!(share < most, "{share} thousandths after {work} ns of work");
        }
    }

    #[test]
    fn a_preempted_spinner_holds_still_for_longer_each_time() {
        let mut life = Life::new();
        let mut holds = Vec::new();
        for _ in 0..12 {
            life.budget.preempted(1_000, life.now);
            let stopped = life.now;
            while life.budget.allowance() == 0 {
                life.now += 20_000;
                life.budget.begin(life.now);
                life.budget.parked(1_000, life.now);
            }
            holds.push((life.now - stopped) / 100_000);
        }
        assert_eq!(holds, [2, 4, 8, 16, 32, 64, 100, 100, 100, 100, 100, 100]);
        life.now += CALM;
        life.budget.preempted(1_000, life.now);
        assert_eq!(life.budget.held_until, life.now + HOLD.0);
    }

    /// As on a machine that takes the CPU away for a moment now and then.
    #[test]
    fn holds_stay_short_where_spinning_saves_sleeps() {
        let mut life = Life::new();
        for _ in 0..10 {
            life.budget.preempted(1_000, life.now);
            assert_eq!(life.budget.held_until, life.now + HOLD.0);
            for _ in 0..WORTH {
                life.budget.saved();
            }
            life.now += 1_000_000;
        }
    }
}
