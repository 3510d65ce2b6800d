//! The createContainer hooks of a spec.
//!
//! The gofer runs them because it has the mounts of the container and is not locked in yet. Their
//! output is kept for the report of a failure; a hook that says nothing of note is not heard.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde::Serialize;
use tracing::{debug, info};

use super::spec::Hook;
use crate::child::{self, Output};
use crate::failure::{Failure, cannot};
use crate::sys;

/// What a hook is told about the container.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct State<'s> {
    /// Of the runtime specification.
    oci_version: &'s str,
    id: &'s str,
    status: &'static str,
    /// The sandbox has no process yet.
    pid: i32,
    bundle: &'s Path,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'s BTreeMap<String, String>,
}

impl<'s> State<'s> {
    /// The state of a container that is being created.
    pub(crate) fn creating(
        oci_version: &'s str,
        id: &'s str,
        bundle: &'s Path,
        annotations: &'s BTreeMap<String, String>,
    ) -> State<'s> {
        State {
            oci_version,
            id,
            status: "creating",
            pid: -1,
            bundle,
            annotations,
        }
    }
}

/// Why a container must not be created.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HookError {
    #[error("hook {}: the path has to be absolute: mend config.json", .0.display())]
    NotAbsolute(PathBuf),
    #[error("hook {} cannot be run: {source}", path.display())]
    Run { path: PathBuf, source: io::Error },
    #[error("hook {} failed with {status}: {output}", path.display())]
    Failed {
        path: PathBuf,
        status: ExitStatus,
        output: String,
    },
    #[error(
        "hook {} was not done after {} seconds and was killed: {output}",
        path.display(),
        limit.as_secs()
    )]
    Slow {
        path: PathBuf,
        limit: Duration,
        output: String,
    },
}

/// Runs hooks one after the other, until one fails.
pub(crate) fn run(hooks: &[Hook], state: &State<'_>) -> Result<(), Failure> {
    if hooks.is_empty() {
        return Ok(());
    }
    let state = serde_json::to_vec(state).map_err(io::Error::from);
    let state = state.map_err(cannot("cannot write down the state for the hooks"))?;
    for hook in hooks.iter().filter(|hook| !does_not_apply(hook)) {
        run_one(hook, &state)?;
    }
    Ok(())
}

/// Hooks that change devices for a container which has the kernel of the host. `runsc` does for
/// its own kernel what they do, and passes them over as well.
fn does_not_apply(hook: &Hook) -> bool {
    let is = |program: &str| hook.path.ends_with(program);
    let skipped = is("nvidia-container-runtime-hook")
        || is("nvidia-cdi-hook")
            && hook
                .args
                .iter()
                .any(|arg| arg == "disable-device-node-modification");
    if skipped {
        info!(hook = %hook.path.display(), "passed over: runsc does this itself");
    }
    skipped
}

fn run_one(hook: &Hook, state: &[u8]) -> Result<(), HookError> {
    if !hook.path.is_absolute() {
        return Err(HookError::NotAbsolute(hook.path.clone()));
    }
    let failed = |source: io::Error| HookError::Run {
        path: hook.path.clone(),
        source,
    };
    debug!(hook = %hook.path.display(), "running");
    // A file, not a pipe: nobody has to wait until the hook has read it.
    let input = memfd_create(c"hook", MFdFlags::MFD_CLOEXEC);
    let mut input = File::from(input.map_err(io::Error::from).map_err(failed)?);
    input.write_all(state).map_err(failed)?;
    input.rewind().map_err(failed)?;
    // A pipe, not a file: a hook may say any amount. What it leaves behind and goes on talking finds out
    // that nobody listens any more.
    let (heard, stdout) = io::pipe().map_err(failed)?;
    let mut output = Output::new(heard);
    let stderr = stdout.try_clone().map_err(failed)?;
    let mut command = Command::new(&hook.path);
    if let Some((program, arguments)) = hook.args.split_first() {
        command.arg0(program).args(arguments);
    }
    // Without an environment of its own, a hook has that of runsc, as it would from runsc.
    if !hook.env.is_empty() {
        let pairs = hook.env.iter();
        let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        command.env_clear().envs(pairs);
    }
    let mut child = command
        .stdin(input)
        .stdout(stdout)
        .stderr(stderr)
        // One that is too slow is killed with those it has started.
        .process_group(0)
        .spawn()
        .map_err(failed)?;
    // It has the ends of the pipe that are for writing.
    drop(command);
    let limit = hook.timeout.map(Duration::from_secs);
    let ended = child::wait_hearing(&mut child, limit, Some(&mut output)).map_err(failed)?;
    match (ended, limit) {
        (Some(status), _) if status.success() => Ok(()),
        (Some(status), _) => Err(HookError::Failed {
            path: hook.path.clone(),
            status,
            output: quote(&output),
        }),
        (None, limit) => {
            // It cannot have ended: nobody else waits for it.
            child.kill().map_err(failed)?;
            let group = i32::try_from(child.id()).map(Pid::from_raw);
            // As long as it is not waited for, its number is that of no other group.
            let _ = group.map(|group| killpg(group, Signal::SIGKILL));
            child.wait().map_err(failed)?;
            Err(HookError::Slow {
                path: hook.path.clone(),
                limit: limit.unwrap_or_default(),
                output: quote(&output),
            })
        }
    }
}

/// Leaves the processes that hooks have left behind to the kernel, so that they do not stay when they
/// have ended: their parent is this process, which is the first one of its PID namespace.
///
/// From here on no child can be waited for.
pub(crate) fn let_go() -> Result<(), Failure> {
    sys::ignore(Signal::SIGCHLD).map_err(cannot("cannot ignore a signal"))?;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            // Those that are still there are not kept any more.
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(()),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(why) => return Err(cannot("cannot wait for what hooks have left")(why)),
        }
    }
}

/// The beginning of what a hook has said.
fn quote(output: &Output) -> String {
    match String::from_utf8_lossy(output.said()).trim() {
        "" => "it said nothing".to_owned(),
        said => said.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsRawFd;
    use std::{process, slice};

    use super::*;

    fn shell(script: &str) -> Hook {
        Hook {
            path: PathBuf::from("/bin/sh"),
            args: ["sh", "-c", script].map(str::to_owned).to_vec(),
            env: Vec::new(),
            timeout: Some(60),
        }
    }

    fn run_with(hooks: &[Hook]) -> Result<(), Failure> {
        let annotations = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        run(
            hooks,
            &State::creating("1.0.2", "c1", Path::new("/bundle"), &annotations),
        )
    }

    #[test]
    fn a_hook_reads_the_state_and_has_its_own_environment() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let mut hook = shell("cat > \"$OUT\"; echo $0 $HOME >> \"$OUT\"");
        hook.env = vec![format!("OUT={}", out.display())];
        run_with(&[hook]).unwrap();
        let said = std::fs::read_to_string(out).unwrap();
        assert_eq!(
            said,
            r#"{"ociVersion":"1.0.2","id":"c1","status":"creating","pid":-1,"bundle":"/bundle","annotations":{"a":"b"}}"#
                .to_owned()
                + "sh\n"
        );
    }

    #[test]
    fn a_hook_that_fails_is_quoted_and_the_next_is_not_run() {
        let dir = tempfile::tempdir().unwrap();
        let mark = dir.path().join("mark");
        let hooks = [
            shell("echo out; echo err >&2; exit 3"),
            shell(&format!("touch {}", mark.display())),
        ];
        let why = run_with(&hooks).unwrap_err().to_string();
        assert!(why.contains("/bin/sh"), "{why}");
        assert!(why.contains("3: out\nerr"), "{why}");
        assert!(!mark.exists());
    }

    #[test]
    fn a_hook_that_takes_too_long_is_killed() {
        let mut hook = shell("echo started; exec sleep 1000");
        hook.timeout = Some(1);
        let why = run_with(&[hook]).unwrap_err().to_string();
        assert!(why.contains("not done after 1 seconds"), "{why}");
        assert!(why.contains("started"), "{why}");
    }

    #[test]
    fn what_a_slow_hook_has_started_is_killed_with_it() {
        let (mut ended, inherited) = io::pipe().unwrap();
        let number = inherited.as_raw_fd();
        let mut hook = shell(&format!(
            "sleep 1000 3>/proc/{}/fd/{number}; true",
            process::id()
        ));
        hook.timeout = Some(1);
        run_with(&[hook]).unwrap_err();
        drop(inherited);
        // Otherwise it stays open for as long as that sleeps.
        ended.read_to_end(&mut Vec::new()).unwrap();
    }

    #[test]
    fn the_beginning_of_a_long_output_is_quoted() {
        let script = "echo first; head -c 1000000 /dev/zero | tr '\\0' x; exit 1";
        let why = run_with(&[shell(script)]).unwrap_err().to_string();
        assert!(why.contains("1: first\nxxx"), "{why}");
        assert!(why.len() < 5000, "{} bytes", why.len());
    }

    #[test]
    fn neither_long_output_nor_a_process_left_behind_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let script = format!(
            "head -c 1000000 /dev/zero; (while [ -d {} ]; do sleep 0.01; done) &",
            dir.path().display()
        );
        run_with(&[shell(&script)]).unwrap();
    }

    #[test]
    fn hooks_of_nvidia_are_left_to_runsc() {
        let mut hook = shell("exit 1");
        hook.path = PathBuf::from("/usr/bin/nvidia-container-runtime-hook");
        run_with(&[hook]).unwrap();
    }

    #[test]
    fn what_is_not_a_program_is_refused() {
        let mut hook = shell("");
        hook.path = PathBuf::from("sh");
        let why = run_with(slice::from_ref(&hook)).unwrap_err().to_string();
        assert!(why.contains("absolute"), "{why}");
        hook.path = PathBuf::from("/nowhere/sh");
        let why = run_with(&[hook]).unwrap_err().to_string();
        assert!(why.contains("/nowhere/sh"), "{why}");
    }
}
