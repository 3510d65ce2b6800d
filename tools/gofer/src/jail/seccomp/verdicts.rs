//! What the filter says of calls, without making them: the program is run here as by the kernel.

use std::collections::BTreeSet;
use std::os::fd::BorrowedFd;

use lisafs::host::HostUds;
use nix::libc::{self, c_long};
use seccompiler::{BpfProgram, sock_filter};

use super::{Policy, Violation, compile, number};

/// What `struct seccomp_data` holds.
struct Call {
    number: c_long,
    arguments: [u64; 6],
}

impl Call {
    fn word(&self, offset: u32) -> u32 {
        match offset {
            0 => u32::try_from(self.number).unwrap(),
            // The architecture.
            4 if cfg!(target_arch = "x86_64") => 0xc000_003e,
            4 => 0xc000_00b7,
            // The lower half of each comes first.
            16..64 => {
                let at = usize::try_from(offset).unwrap() - 16;
                let halves = self.arguments[at / 8].to_le_bytes();
                u32::from_le_bytes(halves[at % 8..][..4].try_into().unwrap())
            }
            _ => panic!("nothing is at {offset}"),
        }
    }
}

/// Runs a classic BPF program, of the instructions that filter are made of.
fn verdict(program: &[sock_filter], call: &Call) -> u32 {
    let (mut accumulator, mut next) = (0, 0);
    loop {
        let it = &program[next];
        next += 1;
        let mut jump = |is_true: bool| next += usize::from(if is_true { it.jt } else { it.jf });
        match it.code {
            0x20 => accumulator = call.word(it.k),
            0x54 => accumulator &= it.k,
            0x05 => next += usize::try_from(it.k).unwrap(),
            0x15 => jump(accumulator == it.k),
            0x25 => jump(accumulator > it.k),
            0x35 => jump(accumulator >= it.k),
            0x06 => return it.k,
            other => panic!("an instruction {other:#x}"),
        }
    }
}

/// Whether the program has a way to permit a call, if its arguments can be anything, also two things at
/// once: where they are compared, both ways are gone.
fn is_mentioned(program: &[sock_filter], number: c_long) -> bool {
    let known = Call {
        number,
        arguments: [0; 6],
    };
    let mut seen = BTreeSet::new();
    let mut left = vec![(0, Some(0))];
    while let Some((next, accumulator)) = left.pop() {
        if !seen.insert((next, accumulator)) {
            continue;
        }
        let it = &program[next];
        let next = next + 1;
        let compare = |holds: fn(u32, u32) -> bool| match accumulator {
            Some(word) if holds(word, it.k) => vec![it.jt],
            Some(_) => vec![it.jf],
            None => vec![it.jt, it.jf],
        };
        let ways = match it.code {
            0x20 => {
                let word = (it.k < 8).then(|| known.word(it.k));
                left.push((next, word));
                continue;
            }
            0x54 => {
                left.push((next, accumulator.map(|word| word & it.k)));
                continue;
            }
            0x05 => {
                left.push((next + usize::try_from(it.k).unwrap(), accumulator));
                continue;
            }
            0x06 if it.k == libc::SECCOMP_RET_ALLOW => return true,
            0x06 => continue,
            0x15 => compare(|word, other| word == other),
            0x25 => compare(|word, other| word > other),
            0x35 => compare(|word, other| word >= other),
            other => panic!("an instruction {other:#x}"),
        };
        let ways = ways.into_iter();
        left.extend(ways.map(|way| (next + usize::from(way), accumulator)));
    }
    false
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Passes,
    Lacking,
    Kills,
}

struct Filter(BpfProgram);

impl Filter {
    fn new(host_uds: HostUds, identities: bool, accepts: bool) -> Filter {
        let filter = compile(&Policy {
            procfd: procfd(),
            host_uds,
            identities,
            accepts,
            violation: Violation::Kill,
        })
        .unwrap();
        Filter(filter)
    }

    fn judge(&self, number: c_long, arguments: [u64; 6]) -> Verdict {
        let call = Call { number, arguments };
        match verdict(&self.0, &call) {
            libc::SECCOMP_RET_KILL_PROCESS => Verdict::Kills,
            libc::SECCOMP_RET_ALLOW => Verdict::Passes,
            other => {
                assert_eq!(
                    other,
                    libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned()
                );
                Verdict::Lacking
            }
        }
    }
}

/// Any descriptor has a number.
fn procfd() -> BorrowedFd<'static> {
    std::os::fd::AsFd::as_fd(Box::leak(Box::new(std::io::stderr())))
}

const ANY: u64 = 0xdead_beef_dead_beef;
const FD: u64 = 17;
/// AT_FDCWD, from a caller who clears the upper half.
const HERE: u64 = 0xffff_ff9c;
/// And from one who passes it on as a `long`.
const HERE_EXTENDED: u64 = HERE | 0xffff_ffff << 32;

#[test]
fn arguments_are_judged() {
    use Verdict::{Kills, Lacking, Passes};

    let filter = Filter::new(HostUds::None, false, false);
    let judge = |number, arguments: &[u64]| {
        let mut all = [ANY; 6];
        all[..arguments.len()].copy_from_slice(arguments);
        filter.judge(number, all)
    };
    let bits = |constant: i32| u64::from(constant.cast_unsigned());
    let pair = |sort| {
        let unix = bits(libc::AF_UNIX);
        [unix, bits(sort | libc::SOCK_CLOEXEC), 0]
    };
    let proc = number(procfd());
    let nofollow = bits(libc::O_NOFOLLOW);
    let (empty, symlink) = (bits(libc::AT_EMPTY_PATH), bits(libc::AT_SYMLINK_NOFOLLOW));
    let again = empty | symlink | bits(libc::O_CLOEXEC);
    let own = u64::from(std::process::id());
    let cases: &[(c_long, &[u64], Verdict)] = &[
        (libc::SYS_openat, &[FD, ANY, nofollow], Passes),
        (
            libc::SYS_openat,
            &[FD, ANY, nofollow | bits(libc::O_PATH)],
            Passes,
        ),
        (libc::SYS_openat, &[FD, ANY, 0], Kills),
        (libc::SYS_openat, &[FD, ANY, !nofollow], Kills),
        (libc::SYS_openat, &[HERE, ANY, bits(libc::O_CREAT)], Lacking),
        (libc::SYS_openat, &[HERE, ANY, nofollow], Lacking),
        (libc::SYS_openat, &[HERE_EXTENDED, ANY, nofollow], Lacking),
        (libc::SYS_openat, &[!0, ANY, 0], Kills),
        (libc::SYS_openat, &[proc, ANY, 0], Passes),
        // The kernel looks at the lower half of a descriptor alone.
        (libc::SYS_openat, &[proc | 1 << 32, ANY, 0], Passes),
        (libc::SYS_close, &[FD], Passes),
        (libc::SYS_close, &[proc], Lacking),
        (libc::SYS_close, &[proc | 1 << 32], Lacking),
        (libc::SYS_clone3, &[], Lacking),
        (libc::SYS_dup, &[FD], Kills),
        (libc::SYS_dup3, &[FD, proc, 0], Kills),
        (libc::SYS_close_range, &[0, FD, 0], Kills),
        (libc::SYS_statx, &[FD, ANY, empty], Passes),
        (
            libc::SYS_statx,
            &[FD, ANY, symlink | bits(libc::AT_NO_AUTOMOUNT)],
            Passes,
        ),
        (libc::SYS_statx, &[FD, ANY, 0], Kills),
        (
            libc::SYS_statx,
            &[FD, ANY, bits(libc::AT_NO_AUTOMOUNT)],
            Kills,
        ),
        (libc::SYS_open_tree, &[FD, ANY, again], Passes),
        (libc::SYS_open_tree, &[HERE, ANY, again], Kills),
        (libc::SYS_open_tree, &[HERE_EXTENDED, ANY, again], Kills),
        (libc::SYS_open_tree, &[FD, ANY, again & !symlink], Kills),
        // OPEN_TREE_CLONE
        (libc::SYS_open_tree, &[FD, ANY, again | 1], Kills),
        (libc::SYS_newfstatat, &[FD, ANY, ANY, empty], Passes),
        (libc::SYS_newfstatat, &[FD, ANY, ANY, 0], Kills),
        (
            libc::SYS_mmap,
            &[0, ANY, bits(libc::PROT_READ | libc::PROT_WRITE)],
            Passes,
        ),
        (
            libc::SYS_mmap,
            &[0, ANY, bits(libc::PROT_READ | libc::PROT_EXEC)],
            Kills,
        ),
        (
            libc::SYS_mprotect,
            &[ANY, ANY, bits(libc::PROT_NONE)],
            Passes,
        ),
        (
            libc::SYS_mprotect,
            &[ANY, ANY, bits(libc::PROT_EXEC)],
            Kills,
        ),
        (452, &[FD, ANY, 0o644, empty], Passes),
        (452, &[FD, ANY, 0o644, 0], Kills),
        (libc::SYS_fchmodat, &[proc, ANY, 0o644], Passes),
        (libc::SYS_fchmodat, &[FD, ANY, 0o644], Kills),
        (libc::SYS_fchownat, &[FD, ANY, 0, 0, empty], Passes),
        (libc::SYS_fchownat, &[FD, ANY, 0, 0, 0], Kills),
        (libc::SYS_utimensat, &[FD, ANY, ANY, empty], Passes),
        (libc::SYS_utimensat, &[FD, ANY, ANY, 0], Kills),
        (
            libc::SYS_linkat,
            &[proc, ANY, FD, ANY, bits(libc::AT_SYMLINK_FOLLOW)],
            Passes,
        ),
        (libc::SYS_linkat, &[proc, ANY, FD, ANY, 0], Kills),
        (
            libc::SYS_linkat,
            &[FD, ANY, FD, ANY, bits(libc::AT_SYMLINK_FOLLOW)],
            Kills,
        ),
        (libc::SYS_linkat, &[FD, ANY, FD, ANY, empty], Kills),
        (libc::SYS_unlinkat, &[FD, ANY, 0], Passes),
        (
            libc::SYS_unlinkat,
            &[FD, ANY, bits(libc::AT_REMOVEDIR)],
            Passes,
        ),
        (libc::SYS_unlinkat, &[FD, ANY, 1], Kills),
        (libc::SYS_renameat2, &[FD, ANY, FD, ANY, 0], Passes),
        (
            libc::SYS_renameat2,
            &[FD, ANY, FD, ANY, u64::from(libc::RENAME_NOREPLACE)],
            Passes,
        ),
        (
            libc::SYS_renameat2,
            &[FD, ANY, FD, ANY, u64::from(libc::RENAME_EXCHANGE)],
            Passes,
        ),
        (
            libc::SYS_renameat2,
            &[FD, ANY, FD, ANY, u64::from(libc::RENAME_WHITEOUT)],
            Kills,
        ),
        (
            libc::SYS_mknodat,
            &[FD, ANY, u64::from(libc::S_IFCHR | 0o600), 0],
            Passes,
        ),
        (
            libc::SYS_mknodat,
            &[FD, ANY, u64::from(libc::S_IFCHR | 0o600), 0x103],
            Kills,
        ),
        (
            libc::SYS_mknodat,
            &[FD, ANY, u64::from(libc::S_IFBLK | 0o600), 0],
            Kills,
        ),
        (
            libc::SYS_mknodat,
            &[FD, ANY, u64::from(libc::S_IFREG | 0o600), 0],
            Kills,
        ),
        (
            libc::SYS_mknodat,
            &[FD, ANY, u64::from(libc::S_IFIFO | 0o600), 0],
            Kills,
        ),
        (libc::SYS_setxattr, &[ANY, ANY, ANY, ANY, 0], Passes),
        (libc::SYS_setxattr, &[ANY, ANY, ANY, ANY, 3], Kills),
        (libc::SYS_fcntl, &[FD, bits(libc::F_DUPFD_CLOEXEC)], Passes),
        (libc::SYS_fcntl, &[FD, bits(libc::F_DUPFD)], Kills),
        (libc::SYS_fcntl, &[FD, bits(libc::F_SETOWN)], Kills),
        (libc::SYS_ioctl, &[FD, 0x5421], Passes),
        (libc::SYS_ioctl, &[FD, 0x5411], Passes),
        // What the kernel looks at is the lower half.
        (libc::SYS_ioctl, &[FD, 0x5411 | 1 << 32], Passes),
        (libc::SYS_ioctl, &[FD, 0x5410], Kills),
        // TIOCSTI puts words into the mouth of a terminal.
        (libc::SYS_ioctl, &[FD, 0x5412], Kills),
        (libc::SYS_prctl, &[bits(libc::PR_SET_NAME)], Passes),
        (libc::SYS_prctl, &[0x5356_4d41], Passes),
        (libc::SYS_prctl, &[bits(libc::PR_SET_DUMPABLE), 1], Kills),
        (libc::SYS_prctl, &[bits(libc::PR_SET_SECCOMP)], Kills),
        (libc::SYS_unshare, &[bits(libc::CLONE_FS)], Passes),
        (
            libc::SYS_unshare,
            &[bits(libc::CLONE_FS | libc::CLONE_NEWUSER)],
            Kills,
        ),
        (libc::SYS_clone, &[0x3d_0f00], Passes),
        (libc::SYS_clone, &[0x7d_0f00], Passes),
        (
            libc::SYS_clone,
            &[0x3d_0f00 | bits(libc::CLONE_NEWUSER)],
            Kills,
        ),
        (libc::SYS_clone, &[bits(libc::SIGCHLD)], Kills),
        (
            libc::SYS_clone,
            &[bits(libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD)],
            Kills,
        ),
        (libc::SYS_fchdir, &[proc], Passes),
        (libc::SYS_fchdir, &[FD], Kills),
        (libc::SYS_tgkill, &[own, ANY, bits(libc::SIGABRT)], Passes),
        (libc::SYS_tgkill, &[1, ANY, bits(libc::SIGABRT)], Kills),
        (libc::SYS_sched_setaffinity, &[0], Passes),
        (libc::SYS_sched_setaffinity, &[1], Kills),
        (libc::SYS_prlimit64, &[0, ANY, 0], Passes),
        (libc::SYS_prlimit64, &[0, ANY, 1 << 32], Kills),
        (libc::SYS_prlimit64, &[1, ANY, 0], Kills),
        (libc::SYS_memfd_create, &[ANY, 3], Passes),
        (libc::SYS_memfd_create, &[ANY, 3 | 8], Passes),
        (libc::SYS_memfd_create, &[ANY, 3 | 0x10], Kills),
        (libc::SYS_memfd_create, &[ANY, 1], Kills),
        (libc::SYS_socketpair, &pair(libc::SOCK_SEQPACKET), Passes),
        (libc::SYS_socketpair, &pair(libc::SOCK_STREAM), Passes),
        (libc::SYS_socketpair, &pair(libc::SOCK_DGRAM), Kills),
        // Which AF_UNIX takes for SOCK_DGRAM.
        (libc::SYS_socketpair, &pair(libc::SOCK_RAW), Kills),
        (
            libc::SYS_socketpair,
            &[bits(libc::AF_UNIX), bits(libc::SOCK_STREAM)],
            Kills,
        ),
        (
            libc::SYS_socketpair,
            &[bits(libc::AF_TIPC), pair(libc::SOCK_STREAM)[1]],
            Kills,
        ),
        (libc::SYS_sendto, &[FD, ANY, ANY, ANY, 0], Passes),
        (libc::SYS_sendto, &[FD, ANY, ANY, ANY, 1 << 40], Kills),
        (
            libc::SYS_setsockopt,
            &[FD, bits(libc::SOL_SOCKET), bits(libc::SO_RCVTIMEO)],
            Passes,
        ),
        (
            libc::SYS_setsockopt,
            &[FD, bits(libc::SOL_SOCKET), bits(libc::SO_ATTACH_FILTER)],
            Kills,
        ),
        (
            libc::SYS_setsockopt,
            &[FD, bits(libc::IPPROTO_IP), bits(libc::SO_RCVTIMEO)],
            Kills,
        ),
        (libc::SYS_getsockopt, &[FD, bits(libc::SOL_SOCKET)], Passes),
        (libc::SYS_getsockopt, &[FD, bits(libc::IPPROTO_IP)], Kills),
    ];
    for (number, arguments, expected) in cases {
        let found = judge(*number, arguments);
        assert_eq!(found, *expected, "{number} {arguments:x?}");
    }
    for call in JUDGED {
        let mut found = cases.iter().filter(|(number, ..)| number == call);
        let passes = found.clone().any(|(.., expected)| *expected == Passes);
        let fails = found.any(|(.., expected)| *expected != Passes);
        assert!(passes && fails, "{call} has not been judged both ways");
    }
}

/// How many calls there are, with some room for new ones.
const CALLS: c_long = 600;

/// The calls that are permitted whatever their arguments.
fn open(filter: &Filter) -> Vec<c_long> {
    let passes = |call, any| filter.judge(call, [any; 6]) == Verdict::Passes;
    let is_open = |call: &c_long| [0, ANY, !ANY].into_iter().all(|any| passes(*call, any));
    (0..CALLS).filter(is_open).collect()
}

/// The calls that are permitted with some arguments at least.
fn mentioned(filter: &Filter) -> Vec<c_long> {
    let calls = 0..CALLS;
    calls
        .filter(|call| is_mentioned(&filter.0, *call))
        .collect()
}

fn sorted(mut calls: Vec<c_long>) -> Vec<c_long> {
    calls.sort_unstable();
    calls
}

/// What is permitted with some arguments only. [`arguments_are_judged`] tries each both ways.
const JUDGED: &[c_long] = &[
    libc::SYS_openat,
    libc::SYS_close,
    libc::SYS_statx,
    libc::SYS_newfstatat,
    libc::SYS_open_tree,
    libc::SYS_fchownat,
    libc::SYS_fchmodat,
    452,
    libc::SYS_utimensat,
    libc::SYS_unlinkat,
    libc::SYS_renameat2,
    libc::SYS_linkat,
    libc::SYS_mknodat,
    libc::SYS_setxattr,
    libc::SYS_fcntl,
    libc::SYS_ioctl,
    libc::SYS_fchdir,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_memfd_create,
    libc::SYS_clone,
    libc::SYS_unshare,
    libc::SYS_prctl,
    libc::SYS_sched_setaffinity,
    libc::SYS_prlimit64,
    libc::SYS_tgkill,
    libc::SYS_socketpair,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_getsockopt,
];

#[test]
fn nothing_is_permitted_that_is_not_listed() {
    let filter = Filter::new(HostUds::None, false, false);
    let anyhow = super::rules::ANYHOW;
    // With one more that is not among those tried.
    let open_to_all = [anyhow, &[libc::SYS_close]].concat();
    assert_eq!(open(&filter), sorted(open_to_all));
    assert_eq!(mentioned(&filter), sorted([anyhow, JUDGED].concat()));
    // Those of the 32-bit and x32 tables are none of them.
    for call in (0..CALLS).map(|call| call | 0x4000_0000) {
        assert_eq!(filter.judge(call, [0; 6]), Verdict::Kills, "{call:#x}");
    }
}

#[test]
fn what_policy_adds_is_all_that_is_added() {
    let usual = mentioned(&Filter::new(HostUds::None, false, false));
    let added = |filter: &Filter| {
        let mut added = mentioned(filter);
        added.retain(|call| !usual.contains(call));
        added
    };
    let unix = u64::from(libc::AF_UNIX.cast_unsigned());
    let connects = Filter::new(HostUds::Open, false, false);
    let calls = vec![libc::SYS_socket, libc::SYS_connect];
    assert_eq!(added(&connects), sorted(calls));
    let socket = |filter: &Filter, domain| filter.judge(libc::SYS_socket, [domain, 1, 0, 0, 0, 0]);
    assert_eq!(socket(&connects, unix), Verdict::Passes);
    assert_eq!(
        socket(&connects, u64::from(libc::AF_INET.cast_unsigned())),
        Verdict::Kills
    );
    let binds = Filter::new(HostUds::Create, false, false);
    let calls = vec![
        libc::SYS_socket,
        libc::SYS_bind,
        libc::SYS_listen,
        libc::SYS_accept4,
    ];
    assert_eq!(added(&binds), sorted(calls));
    let accepts = Filter::new(HostUds::None, false, true);
    assert_eq!(added(&accepts), [libc::SYS_accept4]);
    assert_eq!(socket(&accepts, unix), Verdict::Kills);
    let becomes = Filter::new(HostUds::None, true, false);
    assert_eq!(added(&becomes), sorted(super::rules::IDENTITIES.to_vec()));
    // It must say so itself that it is not dumpable, and nothing else.
    let option = u64::from(libc::PR_SET_DUMPABLE.cast_unsigned());
    let dumpable =
        |filter: &Filter, value| filter.judge(libc::SYS_prctl, [option, value, 0, 0, 0, 0]);
    assert_eq!(dumpable(&becomes, 0), Verdict::Passes);
    for value in [1, 2, 1 << 32 | 1] {
        assert_eq!(dumpable(&becomes, value), Verdict::Kills, "{value:#x}");
    }
    assert_eq!(dumpable(&connects, 0), Verdict::Kills);
}
