//! The createContainer hooks of a spec.
//!
//! The gofer runs them because it has the mounts of the container and is not locked in yet. Their
//! output is kept for the report of a failure; a hook that says nothing of note is not heard.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::memfd::{MFdFlags, memfd_create};
use serde::Serialize;
use tracing::{debug, info};

use super::spec::Hook;
use crate::child;
use crate::failure::{Failure, cannot};

/// How much of what a failed hook has said is passed on.
const QUOTED: u64 = 4096;

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
    // Files, not pipes: neither side has to wait for the other, nor for processes that a hook leaves
    // behind.
    let mut input = scratch().map_err(failed)?;
    input.write_all(state).map_err(failed)?;
    input.rewind().map_err(failed)?;
    let mut output = scratch().map_err(failed)?;
    let (stdout, stderr) = (output.try_clone(), output.try_clone());
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
        .stdout(stdout.map_err(failed)?)
        .stderr(Stdio::from(stderr.map_err(failed)?))
        .spawn()
        .map_err(failed)?;
    let limit = hook.timeout.map(Duration::from_secs);
    let ended = child::wait(&mut child, limit).map_err(failed)?;
    match (ended, limit) {
        (Some(status), _) if status.success() => Ok(()),
        (Some(status), _) => Err(HookError::Failed {
            path: hook.path.clone(),
            status,
            output: quote(&mut output),
        }),
        (None, limit) => {
            // It cannot have ended: nobody else waits for it.
            child.kill().map_err(failed)?;
            child.wait().map_err(failed)?;
            Err(HookError::Slow {
                path: hook.path.clone(),
                limit: limit.unwrap_or_default(),
                output: quote(&mut output),
            })
        }
    }
}

fn scratch() -> io::Result<File> {
    Ok(memfd_create(c"hook", MFdFlags::MFD_CLOEXEC)?.into())
}

/// The beginning of what a hook has said.
fn quote(output: &mut File) -> String {
    let mut said = Vec::new();
    // What cannot be read is missing in an error message, no more.
    let _ = output
        .rewind()
        .and_then(|()| output.take(QUOTED).read_to_end(&mut said));
    match String::from_utf8_lossy(&said).trim() {
        "" => "it said nothing".to_owned(),
        said => said.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::slice;

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
