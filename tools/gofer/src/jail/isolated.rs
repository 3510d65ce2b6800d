//! Tests that run in namespaces of their own.
#![forbid(unsafe_code)]

use std::env;
use std::process::{Command, Stdio};

use crate::skipped::{pass_on, skip};

const INSIDE: &str = "LISAFS_GOFER_TEST_IS_ISOLATED";

/// On which side of the namespaces the caller is.
pub(super) enum Isolated {
    /// Inside: it may do what it likes.
    Inside,
    /// Outside: all is done.
    Outside,
}

/// Runs the test `name` once more, in a process that is root in a user namespace of its own and has a
/// mount namespace of its own. `before` are shell commands that run in one of each before, so what
/// they mount is locked for the test.
///
/// # Panics
/// In the outer process if the test fails in the inner one.
pub(super) fn isolated(name: &str, before: &str) -> Isolated {
    if env::var_os(INSIDE).is_some() {
        return Isolated::Inside;
    }
    if !may_unshare() {
        skip(name, "there is no permission to make user namespaces");
        return Isolated::Outside;
    }
    // A test that has left the root of the host cannot remove what it has made there.
    let scratch = tempfile::tempdir().unwrap();
    // Without `exec`: with its last process, the outer namespace would go.
    let script = format!(
        "set -e; {before}\nunshare --user --map-root-user --mount --propagation unchanged \"$@\""
    );
    let output = unshare()
        .args(["sh", "-c", &script, "sh"])
        .arg(env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(INSIDE, "yes")
        .env("TMPDIR", scratch.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{}\n{said}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    pass_on(&output.stderr);
    Isolated::Outside
}

fn unshare() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "--"]);
    command
}

fn may_unshare() -> bool {
    let mut command = unshare();
    command.arg("true").stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
