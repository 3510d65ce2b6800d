//! Tests that run in namespaces of their own.
#![forbid(unsafe_code)]

use std::env;
use std::process::{Command, Stdio};

use super::apart::{again, assert_passed};
use crate::skipped::skip;

/// What starts a program in such namespaces.
const UNSHARE: &[&str] = &["unshare", "--user", "--map-root-user", "--mount", "--"];

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
    // Without `exec`: with its last process, the outer namespace would go.
    let script = format!(
        "set -e; {before}\nunshare --user --map-root-user --mount --propagation unchanged \"$@\""
    );
    let around = [UNSHARE, &["sh", "-c", &script, "sh"]].concat();
    assert_passed(name, &again(&around, name, (INSIDE, "yes")));
    Isolated::Outside
}

fn may_unshare() -> bool {
    let mut command = Command::new(UNSHARE[0]);
    command
        .args(&UNSHARE[1..])
        .arg("true")
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
