//! From `create` to `delete`, and the other ways to live and to end.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::bundle::{self, Bundle};
use crate::processes;
use crate::sandbox::{Container, LIMIT, Runsc};
use crate::stage::{Act, Seen, Stage};
use crate::subject::Subject;
use crate::tree_hash::tree;

pub(crate) const CASES: &[(&str, Act)] = &[
    ("do/overlay", do_overlay),
    ("do/no-overlay", do_no_overlay),
    ("do/host-root", do_host_root),
    ("life/create-start-delete", create_start_delete),
    ("life/exec", exec),
    ("life/exit-status", exit_status),
    ("life/sub-container", sub_container),
    ("life/gofer-killed", gofer_killed),
    ("life/gofer-killed-while-busy", gofer_killed_while_busy),
    (
        "life/gofer-killed-while-created",
        gofer_killed_while_created,
    ),
];

/// Something that goes on until it is killed.
pub(crate) const FOREVER: [&str; 2] = ["sleep", "1000"];

const WRITES: &str = "echo made >/made && mkdir /dir && mv /made /dir/moved && cat /dir/moved";

fn do_overlay(stage: &Stage) -> Result<Seen, String> {
    let mut seen = Seen::default();
    let bundle = Bundle::new()?;
    let before = tree(&bundle.root(""))?;
    let root = format!("--root={}", bundle.root("").display());
    seen.says(stage.runsc()?.run_do(&[&root], WRITES)?, "made\n")?;
    seen.tree = tree(&bundle.root(""))?;
    if seen.tree == before {
        Ok(seen)
    } else {
        Err("the host's tree was changed through an overlay".to_owned())
    }
}

fn do_no_overlay(stage: &Stage) -> Result<Seen, String> {
    let mut seen = Seen::default();
    let bundle = Bundle::new()?;
    let root = format!("--root={}", bundle.root("").display());
    let done = stage
        .runsc()?
        .run_do(&["--force-overlay=false", &root], WRITES)?;
    seen.says(done, "made\n")?;
    let written = fs::read_to_string(bundle.root("dir/moved")).map_err(|why| why.to_string())?;
    if written != "made\n" {
        return Err(format!("the host has {written:?}"));
    }
    seen.tree = tree(&bundle.root(""))?;
    Ok(seen)
}

/// The host's own root, which is not to be changed.
fn do_host_root(stage: &Stage) -> Result<Seen, String> {
    let mut seen = Seen::default();
    let busybox = bundle::find_program("busybox")?.display().to_string();
    let script = format!("{busybox} find /etc -type f | {busybox} sort && echo no >/etc/no");
    let words = ["do", "--cwd=/", &busybox, "sh", "-c", &script];
    seen.success(stage.runsc()?.finish(&words)?)?;
    if fs::exists("/etc/no").unwrap_or(true) {
        return Err("the container has written to the host's /etc".to_owned());
    }
    if seen.said.iter().any(|said| said.contains("/etc/passwd\n")) {
        Ok(seen)
    } else {
        Err("the container does not see the host's /etc/passwd".to_owned())
    }
}

fn create_start_delete(stage: &Stage) -> Result<Seen, String> {
    let mut seen = Seen::default();
    let runsc = stage.runsc()?;
    let mut bundle = Bundle::new()?;
    bundle.args(&["sh", "-c", "echo started >/started; sleep 1000"]);
    let container = runsc.create(&bundle)?;
    seen.said.push(container.status()?);
    if fs::exists(bundle.root("started")).unwrap_or(true) {
        return Err("it runs before it is started".to_owned());
    }
    container.start()?;
    until("the container writes", || {
        Ok(fs::read_to_string(bundle.root("started")).is_ok_and(|text| text == "started\n"))
    })?;
    seen.said.push(container.status()?);
    container.delete()?;
    if seen.said != ["created", "running"] {
        return Err(format!("it was {:?}", seen.said));
    }
    nothing_lingers(&runsc, &bundle)?;
    seen.tree = tree(&bundle.root(""))?;
    Ok(seen)
}

fn exec(stage: &Stage) -> Result<Seen, String> {
    let mut seen = Seen::default();
    let runsc = stage.runsc()?;
    let mut bundle = Bundle::new()?;
    bundle.args(&FOREVER);
    let container = runsc.create(&bundle)?;
    container.start()?;
    seen.says(container.exec("echo one >/file; cat /file")?, "one\n")?;
    seen.says(container.exec("echo two >>/file; cat /file")?, "one\ntwo\n")?;
    seen.failure(container.exec("cat /absent 2>&1; exit 7")?)?;
    container.delete()?;
    seen.tree = tree(&bundle.root(""))?;
    Ok(seen)
}

fn exit_status(stage: &Stage) -> Result<Seen, String> {
    let mut seen = Seen::default();
    let runsc = stage.runsc()?;
    let mut bundle = Bundle::new()?;
    bundle.args(&["sh", "-c", "echo said; exit 42"]);
    let finished = runsc.run(&bundle)?;
    if finished.status.code() != Some(42) {
        return Err(format!("{}: {}", finished.status, finished.stderr));
    }
    seen.failure(finished)?;
    nothing_lingers(&runsc, &bundle)?;
    Ok(seen)
}

/// Two containers in one sandbox, as containerd makes a pod; each has a gofer.
fn sub_container(stage: &Stage) -> Result<Seen, String> {
    let mut seen = Seen::default();
    let runsc = stage.runsc()?;
    let (mut pod, mut inner) = (Bundle::new()?, Bundle::new()?);
    pod.args(&FOREVER);
    pod.spec()["annotations"] = json!({"io.kubernetes.cri.container-type": "sandbox"});
    let pod_container = runsc.create(&pod)?;
    pod_container.start()?;

    fs::create_dir(inner.path().join("volume")).map_err(|why| why.to_string())?;
    fs::write(inner.path().join("volume/given"), "given\n").map_err(|why| why.to_string())?;
    inner.bind("volume", "/volume", &["rw"]);
    inner.args(&FOREVER);
    inner.spec()["annotations"] = json!({
        "io.kubernetes.cri.container-type": "container",
        "io.kubernetes.cri.sandbox-id": pod_container.id,
    });
    let container = runsc.create(&inner)?;
    container.start()?;
    seen.says(
        container.exec("cat /volume/given; echo mine >/volume/made; ls /volume")?,
        "given\ngiven\nmade\n",
    )?;
    seen.failure(pod_container.exec("cat /volume/made 2>&1")?)?;
    let gofers = runsc.gofers();
    if gofers.len() != 2 || runsc.sandboxes().len() != 1 {
        return Err(format!(
            "gofers {gofers:?}, sandboxes {:?}",
            runsc.sandboxes()
        ));
    }
    container.delete()?;
    seen.says(pod_container.exec("echo alive")?, "alive\n")?;
    pod_container.delete()?;
    nothing_lingers(&runsc, &pod)?;
    nothing_lingers(&runsc, &inner)?;
    seen.tree = tree(&inner.root(""))?;
    seen.tree.extend(tree(&inner.path().join("volume"))?);
    Ok(seen)
}

/// Without its files a container cannot go on, and must not.
fn gofer_killed(stage: &Stage) -> Result<Seen, String> {
    let runsc = stage.runsc()?;
    let mut bundle = Bundle::new()?;
    bundle.args(&FOREVER);
    let container = runsc.create(&bundle)?;
    container.start()?;
    if container.status()? != "running" {
        return Err("it does not run".to_owned());
    }
    whose_gofer(stage, &runsc)?;
    kill_gofer(&runsc)?;
    ends(&container)?;
    container.delete()?;
    nothing_lingers(&runsc, &bundle)?;
    Ok(Seen {
        said: vec!["ended".to_owned()],
        tree: tree(&bundle.root(""))?,
    })
}

/// Requests that are under way are never answered.
fn gofer_killed_while_busy(stage: &Stage) -> Result<Seen, String> {
    let runsc = stage.runsc()?;
    let mut bundle = Bundle::new()?;
    let script = "busy() { while :; do for i in 1 2 3 4 5 6 7 8 9; do echo $i >/$1-$i; done; rm /$1-*; \
                  done; }; busy a & busy b & busy c";
    bundle.args(&["sh", "-c", script]);
    let container = runsc.create(&bundle)?;
    container.start()?;
    until("the gofer is busy", || {
        let used = runsc
            .gofers()
            .into_iter()
            .map(|gofer| processes::usage(gofer).cpu);
        Ok(used.sum::<Duration>() > Duration::from_millis(200))
    })?;
    kill_gofer(&runsc)?;
    ends(&container)?;
    container.delete()?;
    nothing_lingers(&runsc, &bundle)?;
    // What of the files is left is a matter of chance.
    Ok(Seen::default())
}

fn gofer_killed_while_created(stage: &Stage) -> Result<Seen, String> {
    let runsc = stage.runsc()?;
    let mut bundle = Bundle::new()?;
    bundle.args(&FOREVER);
    let container = runsc.create(&bundle)?;
    kill_gofer(&runsc)?;
    container.delete()?;
    nothing_lingers(&runsc, &bundle)?;
    Ok(Seen {
        said: vec!["deleted".to_owned()],
        tree: tree(&bundle.root(""))?,
    })
}

/// The comparison would be content with one gofer in both places.
pub(crate) fn whose_gofer(stage: &Stage, runsc: &Runsc) -> Result<(), String> {
    let gofers = runsc.gofers();
    if gofers.is_empty() {
        return Err("there is no gofer".to_owned());
    }
    for gofer in gofers {
        let program = fs::read_link(format!("/proc/{gofer}/exe")).map_err(|why| why.to_string())?;
        let expected = match stage.subject {
            Subject::Stock => "runsc",
            Subject::Ours => "multiplexer",
        };
        if !program.ends_with(expected) {
            return Err(format!("the gofer is {}", program.display()));
        }
    }
    Ok(())
}

fn kill_gofer(runsc: &Runsc) -> Result<(), String> {
    match runsc.gofers().as_slice() {
        [gofer] => {
            processes::kill(*gofer);
            Ok(())
        }
        others => Err(format!("not one gofer: {others:?}")),
    }
}

fn ends(container: &Container<'_>) -> Result<(), String> {
    until(
        "the container ends",
        || Ok(container.status()? == "stopped"),
    )
}

/// Asks until it is so; things that happen in other processes take their time.
pub(crate) fn until(
    what: &str,
    mut is_so: impl FnMut() -> Result<bool, String>,
) -> Result<(), String> {
    let deadline = Instant::now() + LIMIT;
    while !is_so()? {
        if Instant::now() > deadline {
            return Err(format!("waited in vain: {what}"));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// No process, no state, and no mount of the bundle's files.
pub(crate) fn nothing_lingers(runsc: &Runsc, bundle: &Bundle) -> Result<(), String> {
    until("its processes are gone", || {
        let mut left = runsc.gofers();
        left.extend(runsc.sandboxes());
        Ok(left.is_empty())
    })?;
    let states = runsc.states()?;
    if !states.is_empty() {
        return Err(format!("state of containers is left: {states:?}"));
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").map_err(|why| why.to_string())?;
    let path = bundle.path().display().to_string();
    match mounts.lines().find(|line| line.contains(&path)) {
        Some(mount) => Err(format!("still mounted: {mount}")),
        None => Ok(()),
    }
}
