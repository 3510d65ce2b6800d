//! The order in which the gofer does what `runsc` expects.
#![forbid(unsafe_code)]

use std::mem;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use caps::Capability;
use flipcall::Spinners;
use lisafs::host::CharacterDevices;
use lisafs::server::Server;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::prctl::{get_dumpable, set_dumpable};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::stat::Mode;
use nix::unistd::getpid;
use tracing::{info, warn};

use super::argv::{Dialect, Invocation, Mounts, Overlay};
use super::connections::{Connection, Files};
use super::container::Container;
use super::donated::Donated;
use super::mounts::{self, Layers, Plan};
use super::open_mount::MountOpener;
use super::spec::{Mount, Spec};
use super::{handshake, log};
use crate::failure::{Failure, cannot};
use crate::jail::export::named;
use crate::jail::groups::drop_groups;
use crate::jail::landlock::{self, Reach};
use crate::jail::layers::{self, Layer, Missing, NO_NEW_PRIVS, Report};
use crate::jail::seccomp::{self, Policy, Violation};
use crate::trace::Trace;
use crate::{jail, panics, process};

/// Serves until the sandbox has hung up everywhere.
///
/// What goes wrong is told to `report`, and before the sandbox knows of the mounts that is while it still
/// waits for them: as soon as it waits in vain, runsc kills this process.
pub(crate) fn run(
    invocation: &Invocation,
    trace: bool,
    report: impl Fn(&Failure),
) -> Result<(), Failure> {
    let mut donated = Donated::take(&invocation.fds).inspect_err(&report)?;
    let prepared = prepare(invocation, &mut donated).inspect_err(&report)?;
    serve(invocation, donated, prepared, trace).inspect_err(report)
}

/// All that is there before the sandbox is told of its mounts.
struct Prepared {
    plan: Plan<UnixStream>,
    files: Files,
    list: Vec<Mount>,
    /// How many this process may have.
    descriptors: usize,
    /// What it is locked in with until then.
    report: Report,
    /// By the CPUs that there were in sight.
    spinners: Spinners,
}

fn prepare(invocation: &Invocation, donated: &mut Donated) -> Result<Prepared, Failure> {
    if let Some(target) = donated.debug_log.take() {
        let format = invocation.log_format;
        log::start(target, format, invocation.dialect, invocation.debug)
            .map_err(cannot("cannot log to --debug-log-fd"))?;
    }
    panics::log();
    info!(
        version = env!("CARGO_PKG_VERSION"),
        pid = getpid().as_raw(),
        ?invocation,
        "lisafs-gofer"
    );
    let spec = Spec::read(&donated.spec)?;
    let plan = Plan::new(&spec, overlays(invocation), mem::take(&mut donated.io))?;
    // Until then, files are made for the sandbox through the root of this process.
    if let Some(fd) = donated.sync_chroot.take() {
        handshake::wait_for_close(fd, "the container's file systems")?;
    }
    if let Some(fd) = donated.sync_userns.take() {
        handshake::enter_user_namespace(fd, invocation.uid, invocation.gid)?;
    }
    // Counts the CPUs, while there are files that tell of a quota.
    let spinners = Spinners::new();
    let mut report = Report::default();
    let groups = drop_groups();
    let (files, resolved, descriptors) = if invocation.unsafe_nonroot {
        warn!("--TESTONLY-unsafe-nonroot: the container is kept in by the checks of this process");
        // runsc waits for questions until this is closed.
        drop(donated.rpc.take());
        for layer in [Layer::Namespaces, Layer::PivotRoot] {
            let why = "--TESTONLY-unsafe-nonroot goes without";
            report.note(layer, Err(Missing::new(why, "do without that flag")));
        }
        let root = open_root(&mounts::in_bundle(&invocation.bundle, &spec.root.path))?;
        (
            Files::new(root, invocation)?,
            Default::default(),
            process::settle()?,
        )
    } else {
        let opener = opener(donated.rpc.take())?;
        let container = Container::prepare(invocation, &spec, &plan, opener)?;
        let root = container.tree.root()?;
        let files = Files::new(root, invocation)?;
        let descriptors = process::settle()?;
        container.tree.enter()?;
        report.note(
            Layer::Namespaces,
            Ok("those that runsc has made".to_owned()),
        );
        let mounts = format!(
            "the container's root and mounts, {} and as its specification says",
            named(container.unused)
        );
        report.note(Layer::PivotRoot, Ok(mounts));
        (files, container.resolved, descriptors)
    };
    report.note(Layer::Groups, groups);
    let list = mounts::list(&spec.mounts, &invocation.bundle, &resolved)
        .map_err(cannot("cannot write down the mounts"))?;
    Ok(Prepared {
        plan,
        files,
        list,
        descriptors,
        spinners,
        report,
    })
}

fn serve(
    invocation: &Invocation,
    mut donated: Donated,
    prepared: Prepared,
    trace: bool,
) -> Result<(), Failure> {
    let Prepared {
        plan,
        files,
        list,
        descriptors,
        spinners,
        mut report,
    } = prepared;
    // A file of the host, which could be opened again for writing.
    drop(donated.spec);
    mounts::send(&list, donated.mounts.into())
        .map_err(cannot("cannot tell the sandbox of the mounts"))?;
    report.note(
        Layer::Capabilities,
        if invocation.unsafe_nonroot {
            let why = "--TESTONLY-unsafe-nonroot keeps those that there are";
            Err(Missing::new(why, "do without that flag"))
        } else {
            let kept = kept(invocation);
            let some_are_left = jail::caps::keep_only(&kept)?;
            Ok(layers::capabilities(some_are_left, &kept))
        },
    );
    let descriptors = limit_descriptors(invocation, descriptors)?;
    let mut connections = connections(plan, &list);
    connections.extend(donated.dev_io.take().map(|socket| Connection {
        socket,
        path: PathBuf::from("/dev"),
        readonly: false,
        devices: true,
    }));
    let devices = connections.iter().any(|connection| connection.devices)
        || invocation.character_devices == CharacterDevices::Open;
    let landlock = restrict_files(&files, invocation, devices)?;
    // Its thread gets what this one has left.
    let trace = trace.then(Trace::to_log).transpose()?;
    let most = connections.len().max(1);
    let server = Server::with_spinners(most, spinners, trace.as_ref().map(Trace::observer));
    restrict_calls(&files, invocation)?;
    for (layer, outcome) in [
        (Layer::Process, Ok("not dumpable, no core".to_owned())),
        (Layer::NoNewPrivs, Ok(NO_NEW_PRIVS.to_owned())),
        (Layer::Landlock, landlock),
        (Layer::Seccomp, Ok(Violation::chosen().effect().to_owned())),
    ] {
        report.note(layer, outcome);
    }
    report.log();
    files.serve(&server, connections, descriptors)?;
    if let Some(socket) = donated.sentry_exit.take() {
        handshake::wait_for_sandbox(socket);
    }
    // Until here, so that whoever ends last is not the sandbox.
    drop(donated.pin_ring);
    Ok(())
}

/// Keeps this process from what is never done with files. A kernel without Landlock is no reason not to
/// serve: there is nothing else in the mount tree, unless runsc was told to go without one. Returns what
/// to report.
fn restrict_files(
    files: &Files,
    invocation: &Invocation,
    devices: bool,
) -> Result<Result<String, Missing>, Failure> {
    let reach = if invocation.unsafe_nonroot {
        Reach::Paths
    } else {
        Reach::Tree
    };
    match landlock::restrict(&[files.root()], reach, devices) {
        Ok(enforced) => Ok(Ok(enforced.to_string())),
        Err(why) if why.is_unsupported() => Ok(Err(Missing::new(&why, why.advice()))),
        Err(why) => Err(why.into()),
    }
}

/// Permits this process the system calls that it serves with, and no new privileges. Nobody looks into it
/// from here on, and it leaves no core.
fn restrict_calls(files: &Files, invocation: &Invocation) -> Result<(), Failure> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(cannot("cannot turn off core dumps"))?;
    let is_dumpable = set_dumpable(false).and_then(|()| get_dumpable());
    is_dumpable
        .and_then(|is_dumpable| {
            if is_dumpable {
                Err(Errno::EPERM)
            } else {
                Ok(())
            }
        })
        .map_err(cannot("cannot keep others from looking into this process"))?;
    seccomp::install(&Policy {
        procfd: files.ordinary().procfd(),
        host_uds: invocation.host_uds,
        identities: files.ordinary().connects_with_creds(),
        accepts: false,
        violation: Violation::chosen(),
    })?;
    Ok(())
}

fn overlays(invocation: &Invocation) -> Layers<'_> {
    match &invocation.mounts {
        Mounts::All(overlay) => Layers::Flags {
            root: *overlay != Overlay::None,
            mounts: *overlay == Overlay::All,
        },
        Mounts::Listed(confs) => Layers::Confs(confs),
    }
}

fn opener(socket: Option<UnixStream>) -> Result<Option<MountOpener>, Failure> {
    socket
        .map(|socket| MountOpener::new(socket.into()))
        .transpose()
        .map_err(cannot("cannot ask runsc to open mounts"))
}

fn open_root(path: &Path) -> Result<OwnedFd, Failure> {
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    open(path, flags, Mode::empty()).map_err(|source| Failure::Root {
        dir: path.to_owned(),
        source: source.into(),
    })
}

fn kept(invocation: &Invocation) -> Vec<Capability> {
    let mut kept = jail::caps::FOR_FILES.to_vec();
    // The runsc of 2022 connects as the gofer.
    if invocation.dialect == Dialect::Today && invocation.host_uds.opens() {
        kept.extend(jail::caps::TO_CONNECT);
    }
    kept
}

/// Lowers the number of descriptors that the process may have, if the user of runsc says so. Returns
/// how many it may have.
fn limit_descriptors(invocation: &Invocation, most: usize) -> Result<usize, Failure> {
    let Some(limit) = invocation.fd_limit else {
        return Ok(most);
    };
    match setrlimit(Resource::RLIMIT_NOFILE, limit, limit) {
        Ok(()) => Ok(usize::try_from(limit).unwrap_or(most)),
        Err(Errno::EPERM) => {
            warn!(limit, most, "--fdlimit is more than this process may have");
            Ok(most)
        }
        Err(why) => Err(cannot("cannot limit the number of open files")(why)),
    }
}

/// The connections to what is planned, once it is known where that is.
fn connections(plan: Plan<UnixStream>, list: &[Mount]) -> Vec<Connection> {
    let root = plan.root.map(|served| (PathBuf::from("/"), served));
    let mounts = plan.mounts.into_iter().filter_map(|(index, served)| {
        let mount = list.get(index)?;
        Some((PathBuf::from(&mount.destination), served))
    });
    root.into_iter()
        .chain(mounts)
        .map(|(path, served)| Connection {
            socket: served.socket,
            path,
            readonly: served.readonly,
            devices: false,
        })
        .collect()
}
