//! Containers whose ids are not those of the host, and gofers that are not root there.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::thread;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use serde_json::json;

use crate::bundle::Bundle;
use crate::command;
use crate::flags::NOBODY;
use crate::life::nothing_lingers;
use crate::probe;
use crate::sandbox::{LIMIT, fresh_id};
use crate::stage::{Act, Seen, Stage};
use crate::subject::Release;
use crate::tree_hash::tree;

pub(crate) const CASES: &[(&str, Act)] = &[
    ("identities/user-namespace", user_namespace),
    ("identities/unsafe-nonroot", unsafe_nonroot),
    ("identities/connect", connect),
];

/// What the release of 2022 does not have, or needs programs of others for.
pub(crate) const CASES_OF_HEAD: &[(&str, Act)] = &[
    ("identities/source-out-of-reach", source_out_of_reach),
    ("identities/mapped-mount", mapped_mount),
    ("identities/runsc-as-nobody", runsc_as_nobody),
];

/// What root is on the host in [`map_ids`].
const ROOT_OUTSIDE: u32 = 100_000;

/// Gives the container a user namespace.
fn map_ids(bundle: &mut Bundle, outside: u32, size: u32) {
    let linux = &mut bundle.spec()["linux"];
    if let Some(namespaces) = linux["namespaces"].as_array_mut() {
        namespaces.push(json!({"type": "user"}));
    }
    let mapping = json!([{"containerID": 0, "hostID": outside, "size": size}]);
    linux["uidMappings"] = mapping.clone();
    linux["gidMappings"] = mapping;
}

fn owned(path: &Path, by: u32) -> Result<(), String> {
    chown(path, Some(by), Some(by)).map_err(|why| why.to_string())
}

fn owner(path: &Path) -> Result<u32, String> {
    let stat = fs::symlink_metadata(path);
    Ok(stat
        .map_err(|why| format!("{}: {why}", path.display()))?
        .uid())
}

/// A directory of the bundle's that has a file in it.
fn volume(bundle: &Bundle, name: &str) -> Result<(), String> {
    let io = |why: std::io::Error| why.to_string();
    fs::create_dir_all(bundle.path().join(name)).map_err(io)?;
    fs::write(bundle.path().join(name).join("given"), "given\n").map_err(io)
}

fn user_namespace(stage: &Stage) -> Result<Seen, String> {
    let mut seen = Seen::default();
    let mut bundle = Bundle::new()?;
    map_ids(&mut bundle, ROOT_OUTSIDE, 65_536);
    fs::create_dir(bundle.root("mnt")).map_err(|why| why.to_string())?;
    volume(&bundle, "volume")?;
    for mine in [bundle.root("root"), bundle.path().join("volume")] {
        owned(&mine, ROOT_OUTSIDE)?;
    }
    bundle.bind("volume", "/mnt", &["rw", "nosuid"]);
    let script = "exec 2>&1; cd /mnt; cat given; echo no >given; echo new >new; mkdir /root/d; \
                  touch /root/d/f; chown 5:6 /root/d/f; echo no >/bin/no; stat -c '%n %u:%g' new /root/d/f; \
                  rm given; ls";
    bundle.args(&["sh", "-c", script]);
    let runsc = stage.runsc()?;
    seen.success(runsc.run(&bundle)?)?;
    if owner(&bundle.root("root/d/f"))? != ROOT_OUTSIDE + 5 {
        return Err("the ids of the container are those of the host".to_owned());
    }
    nothing_lingers(&runsc, &bundle)?;
    seen.tree = tree(&bundle.root(""))?;
    seen.tree.extend(tree(&bundle.path().join("volume"))?);
    Ok(seen)
}

/// The gofer may not go through a directory to what it is to serve: runsc has to open it.
fn source_out_of_reach(stage: &Stage) -> Result<Seen, String> {
    let mut seen = Seen::default();
    let mut bundle = Bundle::new()?;
    map_ids(&mut bundle, ROOT_OUTSIDE, 65_536);
    for place in ["rw", "ro", "file"] {
        fs::create_dir(bundle.root(place)).map_err(|why| why.to_string())?;
    }
    fs::remove_dir(bundle.root("file")).map_err(|why| why.to_string())?;
    fs::write(bundle.root("file"), "").map_err(|why| why.to_string())?;
    volume(&bundle, "private/volume")?;
    let private = bundle.path().join("private");
    owned(&private.join("volume"), ROOT_OUTSIDE)?;
    fs::set_permissions(&private, fs::Permissions::from_mode(0o700))
        .map_err(|why| why.to_string())?;
    bundle.bind("private/volume", "/rw", &["rw"]);
    bundle.bind("private/volume", "/ro", &["ro"]);
    bundle.bind("private/volume/given", "/file", &["ro"]);
    let script = "cat /rw/given /ro/given /file; echo new >/rw/new; ls /ro; \
                  ! (echo no >/ro/no) 2>/dev/null && echo refused";
    bundle.args(&["sh", "-c", script]);
    seen.says(
        stage.runsc()?.run(&bundle)?,
        "given\ngiven\ngiven\ngiven\nnew\nrefused\n",
    )?;
    seen.tree = tree(&private)?;
    Ok(seen)
}

/// The owners of files are others in one of the mounts.
fn mapped_mount(stage: &Stage) -> Result<Seen, String> {
    let mut seen = Seen::default();
    let mut bundle = Bundle::new()?;
    map_ids(&mut bundle, ROOT_OUTSIDE, 65_536);
    fs::create_dir(bundle.root("mnt")).map_err(|why| why.to_string())?;
    volume(&bundle, "volume")?;
    bundle.bind("volume", "/mnt", &["rw"]);
    if let Some(mount) = bundle.spec()["mounts"]
        .as_array_mut()
        .and_then(|all| all.last_mut())
    {
        // What root has on the host, root has in the container.
        let mapping = json!([{"containerID": 0, "hostID": ROOT_OUTSIDE, "size": 65_536}]);
        mount["uidMappings"] = mapping.clone();
        mount["gidMappings"] = mapping;
    }
    let script = "cd /mnt; stat -c '%n %u:%g' given; echo more >>given; echo new >new; ls";
    bundle.args(&["sh", "-c", script]);
    seen.says(stage.runsc()?.run(&bundle)?, "given 0:0\ngiven\nnew\n")?;
    if owner(&bundle.path().join("volume/new"))? != 0 {
        return Err("the ids were not mapped".to_owned());
    }
    seen.tree = tree(&bundle.path().join("volume"))?;
    Ok(seen)
}

/// Without `--rootless`: the gofer starts as nobody in the user namespace, and becomes its root when
/// runsc has written down who that is.
fn runsc_as_nobody(stage: &Stage) -> Result<Seen, String> {
    let mut seen = Seen::default();
    let mut bundle = Bundle::new()?;
    map_ids(&mut bundle, NOBODY, 1);
    fs::create_dir(bundle.root("mnt")).map_err(|why| why.to_string())?;
    volume(&bundle, "volume")?;
    for mine in ["root", "dev", "proc", "sys", "tmp", ""] {
        owned(&bundle.root(mine), NOBODY)?;
    }
    owned(&bundle.path().join("volume"), NOBODY)?;
    bundle.bind("volume", "/mnt", &["rw"]);
    let script = "id -u; cat /mnt/given; echo new >/mnt/new; echo mine >/root/file; \
                  ! (echo no >/bin/no) 2>/dev/null && echo refused";
    bundle.args(&["sh", "-c", script]);
    bundle.write()?;
    let runsc = stage.runsc()?.owned_by(NOBODY)?;
    let path = bundle.path().to_string_lossy();
    let mut command = runsc.command(&["run", "--bundle", &path, &fresh_id()]);
    command.uid(NOBODY).gid(NOBODY).env("PATH", "/bin:/usr/bin");
    seen.says(command::run(&mut command, LIMIT)?, "0\ngiven\nrefused\n")?;
    if owner(&bundle.path().join("volume/new"))? != NOBODY {
        return Err("it was made by somebody else".to_owned());
    }
    nothing_lingers(&runsc, &bundle)?;
    seen.tree = tree(&bundle.root(""))?;
    Ok(seen)
}

/// For gVisor's own tests: nothing is mounted, and the root is served where it is.
fn unsafe_nonroot(stage: &Stage) -> Result<Seen, String> {
    let mut seen = Seen::default();
    let mut bundle = Bundle::new()?;
    bundle.args(&[
        "sh",
        "-c",
        "echo new >/new; mkdir /d; mv /new /d/moved; cat /d/moved",
    ]);
    let runsc = stage.runsc()?.flag("--TESTONLY-unsafe-nonroot=true");
    seen.says(runsc.run(&bundle)?, "new\n")?;
    nothing_lingers(&runsc, &bundle)?;
    seen.tree = tree(&bundle.root(""))?;
    Ok(seen)
}

/// Whom a socket of the host's sees: today the user in the container, in 2022 the gofer.
fn connect(stage: &Stage) -> Result<Seen, String> {
    const SOMEBODY: u32 = 1234;
    let mut seen = Seen::default();
    let mut bundle = Bundle::new()?;
    probe::add(&bundle)?;
    let socket = bundle.root("host.sock");
    let listener = UnixListener::bind(&socket).map_err(|why| why.to_string())?;
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666))
        .map_err(|why| why.to_string())?;
    let host = thread::spawn(move || {
        let (peer, _) = listener.accept().map_err(|why| why.to_string())?;
        let who = getsockopt(&peer, PeerCredentials).map_err(|why| why.to_string())?;
        crate::flags::answer_ping(peer).map_err(|why| why.to_string())?;
        Ok::<_, String>((who.uid(), who.gid()))
    });
    bundle.spec()["process"]["user"] = json!({"uid": SOMEBODY, "gid": SOMEBODY + 1});
    bundle.args(&["probe", "connect", "/host.sock"]);
    let runsc = stage.runsc()?.flag("--host-uds=all");
    seen.says(runsc.run(&bundle)?, "from the host\n")?;
    let who = host.join().map_err(|_| "the host's end has panicked")??;
    let expected = match stage.release {
        Release::Debian => (0, 0),
        Release::Head => (SOMEBODY, SOMEBODY + 1),
    };
    if who == expected {
        Ok(seen)
    } else {
        Err(format!("the host sees {who:?}"))
    }
}
