//! Requests, each with what it needs to succeed.

mod attributes;
mod create;
mod files;
mod look;
mod names;
mod sockets;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread;
use std::time::Duration;

use lisafs::Errno;
use lisafs::client::Error;
use lisafs::wire::{FdId, Mid, SetStat, messages};
use lisafs_conformance::{Caller, Stop};

/// More than a tick of the clock, so that what is done before and after it can be told apart. A file
/// is known by its name only when it is older.
pub(super) const TICK: Duration = Duration::from_millis(11);

/// The directory on which something is mounted, and the file in that, see [`Setting::Mounted`].
pub(super) const MOUNT_POINT: &str = "mounted";
pub(super) const WITHIN: &str = "within";

/// The path of a [`Setting::Deep`] root.
pub(super) const DEEP: &[u8] = b"/dir/sub";

/// A request, and what has to be there. The name begins with that of the message.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) setting: Setting,
    pub(crate) needs_root: bool,
    /// The ids that it is about, on a fresh connection.
    pub(crate) begin: fn(&mut Caller) -> Result<Vec<FdId>, Stop>,
    /// The request. What it returns says what the server has answered.
    pub(crate) act: fn(&mut Caller, &[FdId]) -> Result<String, Refusal>,
}

/// What the server serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setting {
    /// A directory.
    Plain,
    /// That, with something mounted in it.
    Mounted,
    /// A directory two names below it.
    Deep,
}

/// What a request was answered that has not succeeded.
#[derive(Debug)]
pub(crate) enum Refusal {
    Error(Error),
    /// All was done but this, because of that.
    Partly(SetStat, Errno),
    /// The answer is not true.
    Untrue(String),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        Refusal::Error(error)
    }
}

/// Declares scenarios: name, then `as_root`, `by_a_mount` or `deep` if it is, what it begins with, the
/// request.
macro_rules! requests {
    ($($name:literal $($trait:ident)?: $begin:expr, $act:expr;)*) => {
        &[$(crate::traced::scenario::Scenario {
            name: $name,
            setting: requests!(@setting $($trait)?),
            needs_root: requests!(@needs_root $($trait)?),
            begin: $begin,
            act: $act,
        }),*]
    };
    (@setting by_a_mount) => { crate::traced::scenario::Setting::Mounted };
    (@setting deep) => { crate::traced::scenario::Setting::Deep };
    (@setting $($trait:ident)?) => { crate::traced::scenario::Setting::Plain };
    // To mount something takes root as well.
    (@needs_root as_root) => { true };
    (@needs_root by_a_mount) => { true };
    (@needs_root $($trait:ident)?) => { false };
}
use requests;

/// All of them.
pub(crate) fn scenarios() -> impl Iterator<Item = &'static Scenario> {
    [
        look::SCENARIOS,
        files::SCENARIOS,
        attributes::SCENARIOS,
        create::SCENARIOS,
        names::SCENARIOS,
        sockets::SCENARIOS,
    ]
    .into_iter()
    .flatten()
}

/// Messages whose requests make no system call, and why.
const NO_CALLS: [(Mid, &str); 1] = [(
    Mid::FLUSH,
    "nothing is held back that could be written, so the server has nothing to do",
)];

impl Scenario {
    /// The message.
    pub(crate) fn message(&self) -> Option<Mid> {
        let end = self.name.find([' ', ',']).unwrap_or(self.name.len());
        Mid::from_name(&self.name[..end])
    }

    /// Whether it makes system calls.
    pub(crate) fn makes_calls(&self) -> bool {
        NO_CALLS.iter().all(|(mid, _)| Some(*mid) != self.message())
    }
}

/// Whether each message has a scenario, and each scenario a message, or what is not so.
pub(crate) fn cover_all_messages() -> Result<(), String> {
    let mut covered = BTreeSet::new();
    for scenario in scenarios() {
        match scenario.message() {
            Some(mid) => covered.insert(mid.0),
            None => return Err(format!("{:?} is no message", scenario.name)),
        };
    }
    let without = messages().filter(|message| !covered.contains(&message.mid.0));
    let without: Vec<_> = without.map(|message| message.name).collect();
    if without.is_empty() {
        Ok(())
    } else {
        Err(format!("no scenario for {without:?}"))
    }
}

/// What each request finds in the directory: made anew for each.
pub(crate) fn furnish(root: &Path) -> std::io::Result<UnixListener> {
    for entry in fs::read_dir(root)? {
        let path = entry?.path();
        // What is mounted there, for the server alone, would be gone with it.
        if path == root.join(MOUNT_POINT) {
            continue;
        }
        if path.symlink_metadata()?.is_dir() {
            fs::remove_dir_all(path)?;
        } else {
            fs::remove_file(path)?;
        }
    }
    fs::create_dir_all(root.join("dir/sub/empty"))?;
    fs::create_dir(root.join("other"))?;
    fs::write(root.join("file"), "content of the file")?;
    fs::write(root.join("dir/sub/inner"), "inner")?;
    fs::write(root.join("other/replaced"), "replaced")?;
    fs::hard_link(root.join("file"), root.join("linked"))?;
    symlink("to/nowhere", root.join("link"))?;
    // What is made in it is of its group.
    let shared = root.join("shared");
    fs::create_dir(&shared)?;
    if nix::unistd::geteuid().is_root() {
        chown(&shared, None, Some(1))?;
    }
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o2775))?;
    let listener = UnixListener::bind(root.join("socket"))?;
    nix::unistd::mkfifo(&root.join("fifo"), nix::sys::stat::Mode::S_IRWXU)?;
    Ok(listener)
}

fn root(caller: &mut Caller) -> Result<FdId, Stop> {
    Ok(caller.mount()?.root.control_fd)
}

/// The root and files in it.
fn found(caller: &mut Caller, names: &[&[u8]]) -> Result<Vec<FdId>, Stop> {
    let root = root(caller)?;
    let mut ids = vec![root];
    for name in names {
        ids.push(caller.find(root, name)?.control_fd);
    }
    Ok(ids)
}

/// The root, the file, and that opened for reading and writing.
fn opened(caller: &mut Caller) -> Result<Vec<FdId>, Stop> {
    let mut ids = found(caller, &[b"file"])?;
    ids.push(caller.open(ids[1], libc::O_RDWR.cast_unsigned())?.id);
    Ok(ids)
}

/// The root and the file, which has lost the name that it was found by.
fn removed(caller: &mut Caller) -> Result<Vec<FdId>, Stop> {
    let ids = found(caller, &[b"file"])?;
    caller.unlink(ids[0], b"file")?;
    thread::sleep(TICK);
    Ok(ids)
}

/// What a request says that is refused with `errno` when no call fails.
pub(super) fn refusal(errno: Errno) -> String {
    format!("{REFUSED}{errno:?}")
}

/// What such requests say begins with this.
pub(super) const REFUSED: &str = "refused with ";

/// A request that is refused with `errno` when no call fails.
fn refused_with<T>(errno: Errno, result: Result<T, Error>) -> Result<String, Refusal> {
    match result {
        Err(Error::Remote(got)) if got == errno => Ok(refusal(errno)),
        Err(error) => Err(error.into()),
        Ok(_) => Err(Refusal::Untrue(format!("not {errno:?}"))),
    }
}
