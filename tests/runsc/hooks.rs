//! Programs that are run when the mounts of a container are there, which is up to the gofer.
//!
//! The release of 2022 knows no such hooks.

use std::fs;

use serde_json::{Value, json};

use crate::bundle::{self, Bundle};
use crate::life::nothing_lingers;
use crate::stage::{Act, Seen, Stage};
use crate::subject::Subject;
use crate::tree_hash::tree;

pub(crate) const CASES_OF_HEAD: &[(&str, Act)] = &[
    ("hooks/run", run),
    ("hooks/failing", failing),
    ("hooks/slow", slow),
];

/// Has busybox on the host run a script with the bundle as `$1`.
fn hook(bundle: &Bundle, script: &str) -> Result<Value, String> {
    let busybox = bundle::find_program("busybox")?;
    let path = bundle.path().to_string_lossy();
    Ok(json!({
        "path": busybox,
        "args": ["busybox", "sh", "-c", script, "hook", path],
        "env": ["PATH=/bin:/usr/bin", "GIVEN=given"],
    }))
}

/// They are told about the container, and find its mounts where its root is.
fn run(stage: &Stage) -> Result<Seen, String> {
    let mut seen = Seen::default();
    let mut bundle = Bundle::new()?;
    let io = |why: std::io::Error| why.to_string();
    fs::create_dir(bundle.path().join("volume")).map_err(io)?;
    fs::write(bundle.path().join("volume/file"), "mounted\n").map_err(io)?;
    bundle.bind("volume", "/mnt/volume", &["ro"]);
    let first = "cat >$1/state; env | grep -c . >$1/environment; echo $GIVEN >>$1/environment; \
                 cat $1/rootfs/mnt/volume/file >$1/rootfs/first";
    let second = "cat $1/rootfs/first >$1/rootfs/second; echo twice >>$1/rootfs/second";
    bundle.spec()["hooks"] =
        json!({"createContainer": [hook(&bundle, first)?, hook(&bundle, second)?]});
    let given_version = bundle.spec()["ociVersion"].clone();
    bundle.spec()["annotations"] = json!({"colour": "blue"});
    bundle.args(&["sh", "-c", "cat /first /second; ls /mnt/volume"]);
    seen.says(
        stage.runsc()?.run(&bundle)?,
        "mounted\nmounted\ntwice\nfile\n",
    )?;
    let read = |name: &str| fs::read_to_string(bundle.path().join(name)).map_err(io);
    let mut state: Value = serde_json::from_str(&read("state")?).map_err(|why| why.to_string())?;
    if state["bundle"] != json!(bundle.path()) || state["id"].as_str().is_none_or(str::is_empty) {
        return Err(format!("the hook was told {state}"));
    }
    // gVisor's gofer names the version that it was built with, ours that of the specification.
    let version = match stage.subject {
        Subject::Stock => state["ociVersion"].clone(),
        Subject::Ours => given_version.clone(),
    };
    if version.as_str().is_none_or(str::is_empty) || state["ociVersion"] != version {
        return Err(format!("the hook was told {state}"));
    }
    // The others differ from container to container.
    for member in ["bundle", "id", "ociVersion"] {
        state[member] = Value::Null;
    }
    seen.said.push(state.to_string());
    seen.said.push(read("environment")?);
    seen.tree = tree(&bundle.root(""))?;
    Ok(seen)
}

/// A container whose hook has failed must not run; `why` is what the log has to say then.
fn refused(stage: &Stage, hook: Value, why: &str) -> Result<Seen, String> {
    let mut bundle = Bundle::new()?;
    bundle.spec()["hooks"] = json!({"createContainer": [hook]});
    bundle.args(&["sh", "-c", "echo ran >/ran"]);
    let log = bundle.path().join("log");
    let runsc = stage.runsc()?.flag(format!("--log={}", log.display()));
    let runsc = runsc.flag("--log-format=json");
    let mut seen = Seen::default();
    let finished = runsc.run(&bundle)?;
    if finished.status.success() || !finished.stdout.is_empty() {
        return Err(format!("it ran: {finished:?}"));
    }
    let log = fs::read_to_string(log).map_err(|why| why.to_string())?;
    if !log.contains(why) {
        return Err(format!("nobody says {why:?}: {log}\n{}", finished.stderr));
    }
    nothing_lingers(&runsc, &bundle)?;
    seen.tree = tree(&bundle.root(""))?;
    Ok(seen)
}

fn failing(stage: &Stage) -> Result<Seen, String> {
    let bundle = Bundle::new()?;
    let hook = hook(&bundle, "echo because of this; exit 3")?;
    refused(stage, hook, "because of this")
}

fn slow(stage: &Stage) -> Result<Seen, String> {
    let bundle = Bundle::new()?;
    let mut hook = hook(&bundle, "exec sleep 1000")?;
    hook["timeout"] = 1.into();
    let why = match stage.subject {
        // It waits for the hook that it has killed in two places at once, which now and then is a
        // deadlock that Go's runtime ends without a word in the log. It does not start the container.
        Subject::Stock => "cannot create sandbox",
        Subject::Ours => "was not done after 1 seconds and was killed",
    };
    refused(stage, hook, why)
}
