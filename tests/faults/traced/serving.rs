//! What the process does that serves.

use std::fs;
use std::io;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use lisafs::host::{CharacterDevices, HostFifo, HostFs, HostOptions, HostUds, Xattrs};
use lisafs::observe::{Exchange, Observer, Via, Watch};
use lisafs::server::{ConnectionOpts, Server};
use lisafs::wire::Mid;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::scenario::{DEEP, MOUNT_POINT, Setting, WITHIN};

/// The first argument of the process that serves. Behind it come the root, the socket and the setting.
pub(super) const MARK: &str = "--server";

/// What it answers that may not mount.
pub(super) const MAY_NOT: &str = "may not";

/// The argument for a setting.
pub(super) fn argument(setting: Setting) -> &'static str {
    match setting {
        Setting::Plain => "plain",
        Setting::Mounted => "mounted",
        Setting::Deep => "deep",
    }
}

/// Serves if this process is to be the server.
pub(crate) fn called() -> Option<ExitCode> {
    let mut words = std::env::args_os().skip(1);
    if words.next()? != MARK {
        return None;
    }
    // It ends with the tests, however those end.
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL).unwrap();
    let (root, socket) = (words.next().unwrap(), words.next().unwrap());
    let setting = words.next().unwrap();
    if setting == argument(Setting::Mounted) && mount_in(Path::new(&root)).is_err() {
        io::stdin().read_line(&mut String::new()).unwrap();
        println!("{MAY_NOT}");
        return Some(ExitCode::SUCCESS);
    }
    let mut opts = ConnectionOpts::default();
    if setting == argument(Setting::Deep) {
        opts.mount_path = DEEP.to_vec();
    }
    serve(Path::new(&root), Path::new(&socket), &opts);
    Some(ExitCode::SUCCESS)
}

/// Mounts something in the directory, for this process alone, with a file in it.
fn mount_in(root: &Path) -> io::Result<()> {
    const NONE: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?;
    let point = root.join(MOUNT_POINT);
    mount(
        Some("faults"),
        &point,
        Some("tmpfs"),
        MsFlags::empty(),
        NONE,
    )?;
    fs::write(point.join(WITHIN), "within")
}

/// The requests that were served.
#[derive(Clone, Debug, Default)]
struct Seen(Arc<Mutex<Vec<Mid>>>);

impl Seen {
    fn lock(&self) -> MutexGuard<'_, Vec<Mid>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Seen {
    fn watch(&self, _: Via) -> Box<dyn Watch> {
        Box::new(self.clone())
    }
}

impl Watch for Seen {
    fn begin(&mut self, mid: Mid) {
        self.lock().push(mid);
    }

    fn end(&mut self, _: &Exchange<'_>) {}
}

/// Answers each line on its standard input: the first when it serves, the others with a census and the
/// number of the first request that was served since.
fn serve(root: &Path, socket: &Path, opts: &ConnectionOpts) {
    let options = HostOptions {
        host_uds: HostUds::All,
        host_fifo: HostFifo::Open,
        character_devices: CharacterDevices::Open,
        xattrs: Xattrs::All,
        donate_root: true,
    };
    let seen = Seen::default();
    let server = Server::observed(8, Arc::new(seen.clone()));
    for (number, line) in io::stdin().lines().enumerate() {
        line.unwrap();
        if number == 0 {
            // What the kernel can do is found out here.
            let host = HostFs::open(root, options).unwrap();
            let listener = UnixListener::bind(socket).unwrap();
            let (server, opts) = (server.clone(), opts.clone());
            thread::spawn(move || {
                for stream in listener.incoming() {
                    server
                        .start_connection(stream.unwrap(), host.clone(), opts.clone())
                        .unwrap();
                }
            });
        }
        let census = server.census();
        let first = seen.lock().drain(..).next().unwrap_or(Mid::ERROR);
        println!(
            "{} {} {} {} {};{}",
            census.connections,
            census.channels,
            census.ids,
            census.objects,
            server.count_nodes(),
            first.0
        );
    }
}
