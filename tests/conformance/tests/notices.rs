//! Whether the suite notices what is wrong with a server.
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)] // a test may panic

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use lisafs::Errno;
use lisafs::host::{HostFifo, HostFs, HostOptions, HostUds};
use lisafs::server::{Answer, Call, ConnectionOpts, RpcHandler, Server};
use lisafs::wire::{Mid, StatReq, messages};
use lisafs_conformance::{
    Case, Differences, Need, Outcome, Probed, Report, Target, Via, cases, run, run_case,
};
use rustix::fs::{XattrFlags, setxattr};
use tempfile::TempDir;

/// What takes extended attributes of users.
const WITH_ATTRIBUTES: [Mid; 4] = [
    Mid::FGET_XATTR,
    Mid::FSET_XATTR,
    Mid::FLIST_XATTR,
    Mid::FREMOVE_XATTR,
];

/// Whether the host has these where the tests serve. Where it has none, nobody can say of such a message
/// what is wrong with it: they are left out.
static HAS_ATTRIBUTES: LazyLock<bool> = LazyLock::new(|| {
    let dir = TempDir::new_in("/var/tmp").unwrap();
    let set = setxattr(dir.path(), "user.probe", b"", XattrFlags::CREATE);
    if let Err(why) = set {
        // Past the harness, which keeps what a test prints that passes. Nobody is left to tell if that
        // fails.
        let why = format_args!("in part, as there are no extended attributes here, {why}");
        let _ = writeln!(io::stderr(), "skipped: notices: {why}");
    }
    set.is_ok()
});

fn is_left_out(mid: Mid) -> bool {
    WITH_ATTRIBUTES.contains(&mid) && !*HAS_ATTRIBUTES
}

/// A server that answers some messages with EOPNOTSUPP, which it offers all the same.
struct Broken {
    server: Server<HostFs>,
    dir: TempDir,
}

impl Broken {
    fn without(mids: &[Mid]) -> Arc<dyn Target> {
        let mut handlers = Server::default_handlers();
        for mid in mids {
            handlers[usize::from(mid.0)] = None;
        }
        Arc::new(Broken {
            // Without a limit: the connections of earlier cases may still be ending.
            server: Server::with_handlers(usize::MAX, handlers),
            dir: TempDir::new_in("/var/tmp").unwrap(),
        })
    }
}

/// The host's directory out of reach.
struct Remote(Arc<dyn Target>);

impl Target for Remote {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn connect(&self, readonly: bool) -> io::Result<UnixStream> {
        self.0.connect(readonly)
    }

    fn host_dir(&self) -> Option<&Path> {
        None
    }

    fn offers(&self, need: Need) -> bool {
        need != Need::HostAccess && self.0.offers(need)
    }
}

/// Does what message `MID` asks for, and then says that nothing can be changed.
fn refuse_afterwards<'c, const MID: u16>(
    call: &mut Call<'c, HostFs>,
    body: &[u8],
) -> Result<Answer<'c, HostFs>, Errno> {
    let handlers = Server::<HostFs>::default_handlers();
    handlers[usize::from(MID)].unwrap()(call, body)?;
    Err(Errno::EROFS)
}

/// A server whose connections that can only be read from are such in words alone.
struct Treacherous {
    honest: Arc<dyn Target>,
    treacherous: Server<HostFs>,
}

impl Treacherous {
    /// The messages that it serves so. What is written to has to be opened for writing, which is
    /// refused at once.
    const SERVED: [(Mid, RpcHandler<HostFs>); 12] = [
        (Mid::SET_STAT, refuse_afterwards::<4>),
        (Mid::OPEN_CREATE_AT, refuse_afterwards::<8>),
        (Mid::MKDIR_AT, refuse_afterwards::<13>),
        (Mid::MKNOD_AT, refuse_afterwards::<14>),
        (Mid::SYMLINK_AT, refuse_afterwards::<15>),
        (Mid::LINK_AT, refuse_afterwards::<16>),
        (Mid::UNLINK_AT, refuse_afterwards::<22>),
        (Mid::RENAME_AT, refuse_afterwards::<23>),
        (Mid::FSET_XATTR, refuse_afterwards::<26>),
        (Mid::FREMOVE_XATTR, refuse_afterwards::<28>),
        (Mid::BIND_AT, refuse_afterwards::<29>),
        (Mid::RENAME_AT2, refuse_afterwards::<33>),
    ];

    fn start() -> Arc<dyn Target> {
        let mut handlers = Server::default_handlers();
        for (mid, handler) in Treacherous::SERVED {
            handlers[usize::from(mid.0)] = Some(handler);
        }
        Arc::new(Treacherous {
            honest: Broken::without(&[]),
            treacherous: Server::with_handlers(usize::MAX, handlers),
        })
    }
}

impl Target for Treacherous {
    fn name(&self) -> &str {
        "treacherous"
    }

    fn connect(&self, readonly: bool) -> io::Result<UnixStream> {
        if !readonly {
            return self.honest.connect(false);
        }
        let dir = self.honest.host_dir().unwrap();
        let (ours, theirs) = UnixStream::pair()?;
        let (host, opts) = (host(dir)?, ConnectionOpts::default());
        self.treacherous.start_connection(theirs, host, opts)?;
        Ok(ours)
    }

    fn host_dir(&self) -> Option<&Path> {
        self.honest.host_dir()
    }

    fn offers(&self, need: Need) -> bool {
        self.honest.offers(need)
    }
}

fn host(dir: &Path) -> io::Result<HostFs> {
    let options = HostOptions {
        host_uds: HostUds::All,
        host_fifo: HostFifo::Open,
        ..HostOptions::default()
    };
    HostFs::open(dir, options).map_err(io::Error::other)
}

impl Target for Broken {
    fn name(&self) -> &str {
        "broken"
    }

    fn connect(&self, readonly: bool) -> io::Result<UnixStream> {
        let host = host(self.dir.path())?;
        let opts = ConnectionOpts {
            readonly,
            ..ConnectionOpts::default()
        };
        let (ours, theirs) = UnixStream::pair()?;
        self.server.start_connection(theirs, host, opts)?;
        Ok(ours)
    }

    fn host_dir(&self) -> Option<&Path> {
        Some(self.dir.path())
    }

    fn offers(&self, need: Need) -> bool {
        match need {
            Need::Privileged => false,
            Need::UserXattr => *HAS_ATTRIBUTES,
            _ => true,
        }
    }
}

fn failed(report: &Report) -> usize {
    let failed = |outcome: &&(String, Via, Outcome)| matches!(outcome.2, Outcome::Failed(_));
    report.outcomes.iter().filter(failed).count()
}

#[test]
fn every_message_that_is_missing_fails_its_own_cases() {
    for message in messages() {
        // Offered only by a server with privileges.
        if message.mid == Mid::CONNECT_WITH_CREDS || is_left_out(message.mid) {
            continue;
        }
        let report = run(
            &Broken::without(&[message.mid]),
            &format!("matrix.{}.", message.name),
            |_, _, _| {},
        );
        assert!(failed(&report) > 0, "nobody misses {}", message.name);
    }
}

#[test]
fn what_is_done_before_it_is_refused_fails() {
    let written = [Mid::PWRITE, Mid::FALLOCATE];
    let served = Treacherous::SERVED.map(|(mid, _)| mid);
    let mutating = messages().filter(|message| message.mutates);
    let mutating: Vec<Mid> = mutating.map(|message| message.mid).collect();
    assert!(
        mutating
            .iter()
            .all(|mid| served.contains(mid) || written.contains(mid))
    );
    assert_eq!(mutating.len(), served.len() + written.len());

    let local = Treacherous::start();
    let remote: Arc<dyn Target> = Arc::new(Remote(Arc::clone(&local)));
    for target in [local, remote] {
        for mid in served.into_iter().filter(|mid| !is_left_out(*mid)) {
            let report = run(&target, &format!("matrix.{mid}."), |_, _, _| {});
            let mut noticed = 0;
            for (name, via, outcome) in report.outcomes {
                match outcome {
                    Outcome::Failed(why) if why.contains("done all the same") => noticed += 1,
                    Outcome::Passed if !name.ends_with(".read_only") => {}
                    other => panic!("{name} over the {via}: {other:?}"),
                }
            }
            assert!(noticed >= Via::ALL.len(), "{mid} is served in secret");
        }
    }
}

#[test]
fn a_server_that_does_all_it_must_fails_nothing() {
    let report = run(&Broken::without(&[]), "walk", |_, _, _| {});
    assert!(report.outcomes.len() > 30);
    assert_eq!(report.complaints(&Differences::default()), [""; 0]);
}

#[test]
fn failures_are_complained_of_unless_they_are_listed() {
    let target = Broken::without(&[Mid::WALK_STAT]);
    let report = run(&target, "matrix.Walk", |_, _, _| {});
    let complaints = report.complaints(&Differences::default());
    assert_eq!(complaints.len(), failed(&report));
    assert!(complaints[0].starts_with("matrix.WalkStat.ok over the socket: "));

    let states = [
        "ok",
        "deleted",
        "read_only",
        "wrong_kind",
        "unknown_id",
        "closed_id",
        "bound_socket",
    ];
    let known = states
        .map(|state| format!("matrix.WalkStat.{state}\tit has none"))
        .join("\n");
    let known: Differences = known.parse().unwrap();
    assert_eq!(report.complaints(&known), [""; 0]);

    let stale: Differences = "matrix.Walk.ok\tit has none".parse().unwrap();
    let more = report.complaints(&stale);
    assert_eq!(more.len(), complaints.len() + 2);
}

#[test]
fn a_directory_of_a_case_is_removed_through_the_protocol_if_need_be() {
    let local = Broken::without(&[]);
    let dir = local.host_dir().unwrap().to_owned();
    let target: Arc<dyn Target> = Arc::new(Remote(local));
    let skipped = |name: &str| {
        matches!(
            run(&target, name, |_, _, _| {}).outcomes.as_slice(),
            [(_, _, Outcome::Skipped(why)), ..] if why == "the served directory is out of reach"
        )
    };
    assert!(skipped("directory.of_66000"));
    for case in cases()
        .iter()
        .filter(|case| case.name().starts_with("rename."))
    {
        assert_eq!(
            run_case(&target, case, Via::Socket),
            Outcome::Passed,
            "{}",
            case.name()
        );
        assert_eq!(
            std::fs::read_dir(&dir).unwrap().count(),
            0,
            "{}",
            case.name()
        );
    }
}

#[test]
fn a_case_that_panics_has_failed_and_leaves_nothing_behind() {
    let target = Broken::without(&[]);
    let case = Case::new("own.panics", |_, _| panic!("on purpose"));
    let panicked = Outcome::Failed("the case panicked".to_owned());
    for via in Via::ALL {
        assert_eq!(run_case(&target, &case, *via), panicked);
    }
    let dir = target.host_dir().unwrap();
    assert_eq!(std::fs::read_dir(dir).unwrap().count(), 0);
    let case = Case::new("own.passes", |session, directory| {
        session.call(&StatReq { fd: directory })?;
        Ok(())
    });
    assert_eq!(run_case(&target, &case, Via::Channel), Outcome::Passed);
}

#[test]
fn a_server_that_hangs_up_fails_the_case_at_once() {
    struct Mute;
    impl Target for Mute {
        fn name(&self) -> &str {
            "mute"
        }
        fn connect(&self, _: bool) -> io::Result<UnixStream> {
            Ok(UnixStream::pair()?.0)
        }
        fn host_dir(&self) -> Option<&Path> {
            None
        }
        fn offers(&self, _: Need) -> bool {
            true
        }
    }
    let target: Arc<dyn Target> = Arc::new(Mute);
    let report = run(&target, "walk.of_nothing", |_, _, _| {});
    assert_eq!(failed(&report), 2);
}

#[test]
fn a_server_is_asked_what_it_offers() {
    let offers = |missing: &[Mid]| {
        let target = Broken::without(missing);
        let dir = target.host_dir().unwrap().to_owned();
        let probed = Probed::new(target).unwrap();
        assert_eq!(std::fs::read_dir(dir).unwrap().count(), 0);
        let asked = [
            Need::UserXattr,
            Need::UnixBind,
            Need::UnixConnect,
            Need::Fifo,
        ];
        asked.map(|need| probed.offers(need))
    };
    assert_eq!(offers(&[]), [*HAS_ATTRIBUTES, true, true, true]);
    assert_eq!(offers(&[Mid::FSET_XATTR]), [false, true, true, true]);
    assert_eq!(
        offers(&[Mid::CONNECT]),
        [*HAS_ATTRIBUTES, true, false, true]
    );
    // Then it is a socket of the host that is connected to.
    assert_eq!(
        offers(&[Mid::BIND_AT]),
        [*HAS_ATTRIBUTES, false, true, true]
    );
    // Whatever it is, nothing can be asked of it.
    assert!(Probed::new(Broken::without(&[Mid::MKDIR_AT])).is_err());
}
