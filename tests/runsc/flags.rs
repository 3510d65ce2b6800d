//! Flags of `runsc` that change what its gofer is asked for.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::thread;

use nix::sys::stat::{Mode, SFlag, mknod};

use crate::bundle::Bundle;
use crate::command;
use crate::life::until;
use crate::probe;
use crate::sandbox::LIMIT;
use crate::stage::{Act, Seen, Stage};
use crate::subject::{Release, Subject};
use crate::tree_hash::tree;

pub(crate) const CASES: &[(&str, Act)] = &[
    ("flags/file-access-shared", shared),
    ("flags/host-uds-all/connect", uds_connect),
    ("flags/host-uds-all/listen", uds_listen),
    ("flags/host-uds-none", uds_none),
    ("flags/host-fifo-open", fifo),
    ("flags/host-fifo-none", fifo_none),
    ("flags/rootless", rootless),
    ("flags/special-files", special_files),
    ("flags/fdlimit", fdlimit),
    ("flags/debug-log", debug_log),
];

/// What Debian's release does not have.
pub(crate) const CASES_OF_HEAD: &[(&str, Act)] = &[
    ("flags/directfs", directfs),
    ("flags/directfs/host-uds-all", directfs_uds),
    ("flags/overlay-self", overlay_self),
];

/// A user without privileges; the one that most systems call nobody.
pub(crate) const NOBODY: u32 = 65534;

/// Changes of the host are seen at once, and those of the container by the host.
fn shared(stage: &Stage) -> Result<Seen, String> {
    let mut seen = Seen::default();
    let runsc = stage.runsc()?.flag("--file-access=shared");
    let mut bundle = Bundle::new()?;
    bundle.args(&["sleep", "1000"]);
    let io = |why: std::io::Error| why.to_string();
    fs::write(bundle.root("file"), "one\n").map_err(io)?;
    let container = runsc.create(&bundle)?;
    container.start()?;
    seen.says(
        container.exec("cat /file; ls /new 2>&1; true")?,
        "one\nls: /new: No such file or directory\n",
    )?;
    fs::write(bundle.root("file"), "one, two and three\n").map_err(io)?;
    fs::write(bundle.root("new"), "new\n").map_err(io)?;
    seen.says(
        container.exec("cat /file /new")?,
        "one, two and three\nnew\n",
    )?;
    fs::rename(bundle.root("new"), bundle.root("file")).map_err(io)?;
    seen.says(
        container.exec("cat /file; ls /new 2>/dev/null; true")?,
        "new\n",
    )?;
    fs::remove_file(bundle.root("file")).map_err(io)?;
    fs::create_dir(bundle.root("file")).map_err(io)?;
    seen.says(
        container.exec("ls -d /file/ && rmdir /file && echo x >/file")?,
        "/file/\n",
    )?;
    if fs::read_to_string(bundle.root("file")).map_err(io)? != "x\n" {
        return Err("the host does not see what the container wrote".to_owned());
    }
    container.delete()?;
    seen.tree = tree(&bundle.root(""))?;
    Ok(seen)
}

/// Answers one "ping" on a socket of the host's.
fn answer(socket: &Path) -> Result<thread::JoinHandle<std::io::Result<()>>, String> {
    let listener = UnixListener::bind(socket).map_err(|why| why.to_string())?;
    Ok(thread::spawn(move || answer_ping(listener.accept()?.0)))
}

/// Answers one "ping".
pub(crate) fn answer_ping(mut peer: UnixStream) -> std::io::Result<()> {
    peer.set_read_timeout(Some(LIMIT))?;
    let mut question = [0; 4];
    peer.read_exact(&mut question)?;
    let answer: &[u8] = if &question == b"ping" {
        b"from the host"
    } else {
        b"what?"
    };
    peer.write_all(answer)
}

fn uds_connect(stage: &Stage) -> Result<Seen, String> {
    connect_with(stage, &["--host-uds=all"])
}

fn directfs_uds(stage: &Stage) -> Result<Seen, String> {
    connect_with(stage, &["--host-uds=all", "--directfs=true"])
}

fn connect_with(stage: &Stage, flags: &[&str]) -> Result<Seen, String> {
    let mut seen = Seen::default();
    let mut bundle = Bundle::new()?;
    probe::add(&bundle)?;
    let host = answer(&bundle.root("host.sock"))?;
    bundle.args(&["probe", "connect", "/host.sock"]);
    let mut runsc = stage.runsc()?;
    for flag in flags {
        runsc = runsc.flag(*flag);
    }
    seen.says(runsc.run(&bundle)?, "from the host\n")?;
    match host.join() {
        Ok(Ok(())) => Ok(seen),
        other => Err(format!("the host's end: {other:?}")),
    }
}

fn uds_listen(stage: &Stage) -> Result<Seen, String> {
    let mut seen = Seen::default();
    let mut bundle = Bundle::new()?;
    probe::add(&bundle)?;
    bundle.args(&["probe", "listen", "/made.sock"]);
    let runsc = stage.runsc()?.flag("--host-uds=all");
    let container = runsc.create(&bundle)?;
    container.start()?;
    until("somebody answers on the container's socket", || {
        Ok(probe::run("connect", &bundle.root("made.sock")).is_ok_and(|said| said == "pong\n"))
    })?;
    until(
        "the container ends",
        || Ok(container.status()? == "stopped"),
    )?;
    container.delete()?;
    seen.tree = tree(&bundle.root(""))?;
    Ok(seen)
}

/// The container cannot reach the host's socket.
fn uds_none(stage: &Stage) -> Result<Seen, String> {
    let mut seen = Seen::default();
    let mut bundle = Bundle::new()?;
    probe::add(&bundle)?;
    let socket = bundle.root("host.sock");
    let _listener = UnixListener::bind(&socket).map_err(|why| why.to_string())?;
    // Debian's gofer does not even show that it is there: what it is called is not compared.
    bundle.args(&[
        "sh",
        "-c",
        "! probe connect /host.sock 2>/dev/null && echo refused",
    ]);
    seen.says(stage.runsc()?.run(&bundle)?, "refused\n")?;
    Ok(seen)
}

fn make_fifo(path: &Path) -> Result<(), String> {
    mknod(path, SFlag::S_IFIFO, Mode::from_bits_truncate(0o666), 0).map_err(|why| why.to_string())
}

fn fifo(stage: &Stage) -> Result<Seen, String> {
    let mut seen = Seen::default();
    let mut bundle = Bundle::new()?;
    make_fifo(&bundle.root("in"))?;
    make_fifo(&bundle.root("out"))?;
    let both = |name: &str| {
        // With both ends open, opening does not wait for the container.
        let open = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(bundle.root(name));
        open.map_err(|why| why.to_string())
    };
    let (mut to, mut from) = (both("in")?, both("out")?);
    to.write_all(b"through a FIFO\n")
        .map_err(|why| why.to_string())?;
    bundle.args(&["sh", "-c", "head -n 1 /in; echo and back >/out"]);
    let runsc = stage.runsc()?.flag("--host-fifo=open");
    seen.says(runsc.run(&bundle)?, "through a FIFO\n")?;
    // It is there: the container, which has ended well, has written it.
    let mut back = [0; 9];
    from.read_exact(&mut back).map_err(|why| why.to_string())?;
    if &back == b"and back\n" {
        Ok(seen)
    } else {
        Err(format!("{back:?}"))
    }
}

fn fifo_none(stage: &Stage) -> Result<Seen, String> {
    let mut seen = Seen::default();
    let mut bundle = Bundle::new()?;
    make_fifo(&bundle.root("in"))?;
    let _writer = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(bundle.root("in"));
    bundle.args(&["sh", "-c", "! cat /in 2>&1 && echo refused"]);
    seen.says(
        stage.runsc()?.run(&bundle)?,
        "cat: can't open '/in': Operation not permitted\nrefused\n",
    )?;
    Ok(seen)
}

/// What must not be opened can still be seen. The gofer of 2022 hides it: not even its name can be
/// looked at.
fn special_files(stage: &Stage) -> Result<Seen, String> {
    let mut seen = Seen::default();
    let mut bundle = Bundle::new()?;
    make_fifo(&bundle.root("tmp/fifo"))?;
    let _listener = UnixListener::bind(bundle.root("tmp/socket")).map_err(|why| why.to_string())?;
    let script = "exec 2>&1; cd /tmp; echo *; ! cat fifo; ! cat socket; \
                  echo looks:; for i in *; do stat -c '%n: %F' $i; done; true";
    bundle.args(&["sh", "-c", script]);
    let said = stage.runsc()?.run(&bundle)?.success()?;
    let (same, looks) = said.split_once("looks:\n").ok_or(said.as_str())?;
    seen.said.push(same.to_owned());
    seen.tree = tree(&bundle.root(""))?;
    let hides = stage.release == Release::Debian && stage.subject == Subject::Stock;
    let expected = if hides {
        "stat: can't stat 'fifo': Operation not permitted\n\
         stat: can't stat 'socket': Operation not permitted\n"
    } else {
        "fifo: fifo\nsocket: socket\n"
    };
    if looks == expected {
        Ok(seen)
    } else {
        Err(said)
    }
}

/// As a user without privileges, who is root inside.
fn rootless(stage: &Stage) -> Result<Seen, String> {
    let mut seen = Seen::default();
    let bundle = Bundle::new()?;
    let runsc = stage.runsc()?.flag("--rootless").owned_by(NOBODY)?;
    let owned = |path: &Path| {
        std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).map_err(|why| why.to_string())
    };
    for inside in ["", "dev", "proc", "sys", "tmp", "root"] {
        owned(&bundle.root(inside))?;
    }
    let root = format!("--root={}", bundle.root("").display());
    let script = "id -u; echo mine >/root/file; cat /root/file; ls -ln /root | tail -n 1 | cut -c 1-30; \
                  echo no 2>/dev/null >/bin/no || echo refused";
    let words = [
        "do",
        "--force-overlay=false",
        "--cwd=/",
        &root,
        "/bin/busybox",
        "sh",
        "-c",
        script,
    ];
    let mut command = runsc.command(&words);
    command.uid(NOBODY).gid(NOBODY).env("PATH", "/bin:/usr/bin");
    seen.success(command::run(&mut command, LIMIT)?)?;
    let said = seen.said.concat();
    if !said.starts_with("0\nmine\n") || !said.ends_with("refused\n") {
        return Err(said);
    }
    seen.tree = tree(&bundle.root(""))?;
    Ok(seen)
}

/// The gofer has few descriptors, and the container more files than that, one after the other.
fn fdlimit(stage: &Stage) -> Result<Seen, String> {
    let mut seen = Seen::default();
    let mut bundle = Bundle::new()?;
    let script = "mkdir /d && for i in $(seq 600); do echo $i >/d/$i; read n </d/$i; echo $n; \
                  [ $((i % 10)) != 0 ] || rm /d/*; done | md5sum; \
                  for i in $(seq 50); do echo $i >/d/$i; done; cat /d/* | wc -l";
    bundle.args(&["sh", "-c", script]);
    let runsc = stage.runsc()?.flag("--fdlimit=512");
    seen.success(runsc.run(&bundle)?)?;
    if !seen.said.concat().ends_with("  -\n50\n") {
        return Err(seen.said.concat());
    }
    seen.tree = tree(&bundle.root(""))?;
    Ok(seen)
}

/// Our gofer logs what it is locked in with, where runsc has its log.
fn debug_log(stage: &Stage) -> Result<Seen, String> {
    let mut seen = Seen::default();
    let mut bundle = Bundle::new()?;
    bundle.args(&["true"]);
    let io = |why: std::io::Error| why.to_string();
    let logs = bundle.path().join("logs");
    fs::create_dir(&logs).map_err(io)?;
    let dir = format!("--debug-log={}/", logs.display());
    let runsc = stage.runsc()?.flag("--debug").flag(dir);
    seen.success(runsc.run(&bundle)?)?;
    if stage.subject == Subject::Stock {
        return Ok(seen);
    }
    let mut said = String::new();
    for log in fs::read_dir(&logs).map_err(io)? {
        let log = log.map_err(io)?.path();
        if log.to_string_lossy().contains("gofer") {
            said += &fs::read_to_string(log).map_err(io)?;
        }
    }
    let layers = said.lines().filter(|line| line.contains("sandbox: "));
    let (there, missing): (Vec<_>, Vec<_>) = layers.partition(|line| line.contains(" in force: "));
    if there.len() == 8 && missing.is_empty() {
        Ok(seen)
    } else {
        Err(said)
    }
}

/// The sandbox opens files itself; the gofer has to let it.
fn directfs(stage: &Stage) -> Result<Seen, String> {
    let mut seen = Seen::default();
    let mut bundle = Bundle::new()?;
    let io = |why: std::io::Error| why.to_string();
    fs::create_dir(bundle.path().join("volume")).map_err(io)?;
    fs::write(bundle.path().join("volume/given"), "given\n").map_err(io)?;
    bundle.bind("volume", "/mnt", &["rw"]);
    bundle.bind("volume", "/ro", &["ro"]);
    bundle.bind("volume/given", "/etc/given", &["ro"]);
    let script = "cat /mnt/given /etc/given; mkdir /d; echo x >/d/x; mv /d/x /d/y; ln /d/y /d/z; \
                  echo new >/mnt/new; echo no 2>/dev/null >/ro/no || echo refused; ls -R /d /mnt";
    bundle.args(&["sh", "-c", script]);
    seen.success(stage.runsc()?.flag("--directfs=true").run(&bundle)?)?;
    if !seen.said.concat().contains("refused\n") {
        return Err(seen.said.concat());
    }
    seen.tree = tree(&bundle.root(""))?;
    Ok(seen)
}

/// The default of today: an overlay that is kept in a file below the root.
fn overlay_self(stage: &Stage) -> Result<Seen, String> {
    let mut seen = Seen::default();
    let mut bundle = Bundle::new()?;
    let before = tree(&bundle.root(""))?;
    bundle.args(&[
        "sh",
        "-c",
        "echo new >/new; rm /etc/passwd; cat /new; ls /etc",
    ]);
    seen.says(
        stage.runsc()?.flag("--overlay2=root:self").run(&bundle)?,
        "new\n",
    )?;
    seen.tree = tree(&bundle.root(""))?;
    if seen.tree == before {
        Ok(seen)
    } else {
        Err("the host's tree was changed through an overlay".to_owned())
    }
}
