//! Asks a server program all cases and prints what came of them.
//!
//! ```text
//! report DIR FILTER WRITABLE-COMMAND READONLY-COMMAND
//! ```
//!
//! Each command is started for each connection, which is its standard input. It is split at spaces.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use lisafs_conformance::{Need, Outcome, Spawned, Target, run};

fn words(command: &str) -> Vec<OsString> {
    command.split(' ').map(OsString::from).collect()
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [dir, filter, writable, readonly] = arguments.as_slice() else {
        eprintln!("usage: report DIR FILTER WRITABLE-COMMAND READONLY-COMMAND");
        return ExitCode::from(2);
    };
    let mut offered = vec![
        Need::UnixBind,
        Need::UnixConnect,
        Need::Fifo,
        Need::UserXattr,
    ];
    if nix::unistd::geteuid().is_root() {
        offered.push(Need::Privileged);
    }
    let target: Arc<dyn Target> = Arc::new(
        Spawned::new("spawned", words(writable))
            .readonly(words(readonly))
            .host_dir(PathBuf::from(dir))
            .offering(&offered),
    );
    let mut failed = false;
    run(&target, filter, |case, via, outcome| {
        let (word, why) = match outcome {
            Outcome::Passed => ("passed", ""),
            Outcome::Failed(why) => ("FAILED", why.as_str()),
            Outcome::Skipped(why) => ("skipped", why.as_str()),
        };
        failed |= matches!(outcome, Outcome::Failed(_));
        println!("{word}\t{via}:{}\t{why}", case.name());
    });
    ExitCode::from(u8::from(failed))
}
