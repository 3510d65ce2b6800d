//! The conformance suite against the gofer as a process, in both ways it is reached.
#![allow(clippy::unwrap_used)] // a test, without test functions

#[path = "gofer/process.rs"]
#[allow(dead_code)] // what other tests use
mod process;

use std::ffi::OsString;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use lisafs_conformance::harness::{self, Subject};
use lisafs_conformance::{Need, Spawned, Target};
use tempfile::TempDir;

use self::process::Gofer;

/// Permissions for all that the suite asks for.
const ALL: [&str; 4] = ["--host-uds", "all", "--host-fifo", "open"];

/// Two gofers that serve one directory, one of them read-only.
struct Listening {
    writable: Gofer,
    readonly: Gofer,
}

impl Target for Listening {
    fn name(&self) -> &str {
        "listening"
    }

    fn connect(&self, readonly: bool) -> io::Result<UnixStream> {
        let gofer = if readonly {
            &self.readonly
        } else {
            &self.writable
        };
        UnixStream::connect(&gofer.socket)
    }

    fn host_dir(&self) -> Option<&Path> {
        Some(&self.writable.root)
    }

    fn offers(&self, need: Need) -> bool {
        need != Need::Privileged || nix::unistd::geteuid().is_root()
    }
}

/// A gofer for each connection, which it inherits.
fn inherited(dir: &Path) -> Spawned {
    let command = |more: &[&str]| -> Vec<OsString> {
        let words = [env!("CARGO_BIN_EXE_lisafs-gofer"), "serve", "--fd", "0"];
        let words = words.iter().chain(&ALL).chain(more).map(OsString::from);
        words.chain([OsString::from(dir)]).collect()
    };
    let mut offered = vec![
        Need::UnixConnect,
        Need::UnixBind,
        Need::Fifo,
        Need::UserXattr,
    ];
    if nix::unistd::geteuid().is_root() {
        offered.push(Need::Privileged);
    }
    Spawned::new("inherited", command(&[]))
        .readonly(command(&["--readonly"]))
        .host_dir(dir.to_owned())
        .offering(&offered)
}

fn main() -> ExitCode {
    // Not in memory as a rule, where older kernels have no extended attributes.
    let [shared, own] = [(); 2].map(|()| TempDir::new_in("/var/tmp").unwrap());
    let listening = Listening {
        writable: Gofer::serve(shared.path(), &ALL),
        readonly: Gofer::serve(shared.path(), &[&ALL[..], &["--readonly"]].concat()),
    };
    harness::main(vec![
        Subject::new(Arc::new(listening)),
        Subject::new(Arc::new(inherited(own.path()))),
    ])
}
