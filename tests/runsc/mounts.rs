//! Roots and mounts, writable or not.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use serde_json::json;

use crate::bundle::Bundle;
use crate::stage::{Act, Seen, Stage};
use crate::tree_hash::tree;

pub(crate) const CASES: &[(&str, Act)] = &[
    ("run/rw-root", rw_root),
    ("run/ro-root", ro_root),
    ("run/overlay", overlay),
    ("run/cwd", cwd),
    ("mounts/rw", rw),
    ("mounts/ro", ro),
    ("mounts/rw-in-ro-root", rw_in_ro_root),
    ("mounts/set-user-id-and-devices", set_user_id_and_devices),
    ("mounts/file", file),
    ("mounts/symlinked-destination", symlinked_destination),
    ("mounts/escaping-destination", escaping_destination),
    ("mounts/new-destination", new_destination),
    ("mounts/nested", nested),
    ("mounts/many", many),
    ("mounts/long-list", long_list),
];

/// Tries everything that changes something and says what is refused.
const CHANGES: &str = "exec 2>&1; cd DIR; echo new >new; mkdir dir; echo more >>given; rm given; \
                       mv other renamed; ln -s x link; ln renamed hard || ln other hard; \
                       chmod 600 kept; touch -d @7 kept; ls; cat kept";

fn fill(bundle: &Bundle, dir: &str) -> Result<(), String> {
    let dir = bundle.path().join(dir);
    fs::create_dir_all(&dir).map_err(|why| why.to_string())?;
    for name in ["given", "other", "kept"] {
        fs::write(dir.join(name), format!("{name}\n")).map_err(|why| why.to_string())?;
    }
    Ok(())
}

fn script(bundle: &mut Bundle, script: &str) {
    bundle.args(&["sh", "-c", script]);
}

/// Runs the bundle, and notes what it says and all that is in it then.
fn run(stage: &Stage, bundle: &Bundle) -> Result<Seen, String> {
    let mut seen = Seen::default();
    seen.success(stage.runsc()?.run(bundle)?)?;
    seen.tree = tree(bundle.path())?;
    // Where the bundle is differs from one to the next.
    seen.tree
        .retain(|line| !line.starts_with("\"config.json\""));
    Ok(seen)
}

/// All changes were made, or all were refused.
fn changed(seen: Seen, changed: bool) -> Result<Seen, String> {
    let said = seen.said.concat();
    let refused = said.matches("Read-only file system").count();
    let as_expected = if changed {
        refused == 0 && said.contains("renamed\n") && !said.contains("given\n")
    } else {
        refused >= 9 && said.contains("given\n") && !said.contains("renamed\n")
    };
    if as_expected { Ok(seen) } else { Err(said) }
}

fn rw_root(stage: &Stage) -> Result<Seen, String> {
    let mut bundle = Bundle::new()?;
    fill(&bundle, "rootfs/work")?;
    script(&mut bundle, &CHANGES.replace("DIR", "/work"));
    changed(run(stage, &bundle)?, true)
}

fn ro_root(stage: &Stage) -> Result<Seen, String> {
    let mut bundle = Bundle::new()?;
    bundle.spec()["root"]["readonly"] = true.into();
    fill(&bundle, "rootfs/work")?;
    let before = tree(&bundle.root(""))?;
    script(&mut bundle, &CHANGES.replace("DIR", "/work"));
    let seen = changed(run(stage, &bundle)?, false)?;
    if tree(&bundle.root(""))? == before {
        Ok(seen)
    } else {
        Err("a read-only root was changed".to_owned())
    }
}

/// The host's files are below an overlay in the sandbox's memory.
fn overlay(stage: &Stage) -> Result<Seen, String> {
    let mut bundle = Bundle::new()?;
    fill(&bundle, "rootfs/work")?;
    let before = tree(&bundle.root(""))?;
    script(&mut bundle, &CHANGES.replace("DIR", "/work"));
    let runsc = stage.runsc()?.flag("--overlay2=root:memory");
    let mut seen = Seen::default();
    seen.success(runsc.run(&bundle)?)?;
    seen.tree = tree(&bundle.root(""))?;
    if seen.tree == before {
        changed(seen, true)
    } else {
        Err("the host's tree was changed through an overlay".to_owned())
    }
}

fn cwd(stage: &Stage) -> Result<Seen, String> {
    let mut bundle = Bundle::new()?;
    bundle.spec()["process"]["cwd"] = "/not/there/yet".into();
    script(&mut bundle, "pwd; echo here >file");
    run(stage, &bundle)
}

fn rw(stage: &Stage) -> Result<Seen, String> {
    let mut bundle = Bundle::new()?;
    fill(&bundle, "volume")?;
    fs::create_dir(bundle.root("mnt")).map_err(|why| why.to_string())?;
    bundle.bind("volume", "/mnt", &["rw"]);
    script(&mut bundle, &CHANGES.replace("DIR", "/mnt"));
    changed(run(stage, &bundle)?, true)
}

fn ro(stage: &Stage) -> Result<Seen, String> {
    let mut bundle = Bundle::new()?;
    fill(&bundle, "volume")?;
    fs::create_dir(bundle.root("mnt")).map_err(|why| why.to_string())?;
    bundle.bind("volume", "/mnt", &["ro", "nosuid"]);
    let before = tree(&bundle.path().join("volume"))?;
    script(&mut bundle, &CHANGES.replace("DIR", "/mnt"));
    let seen = changed(run(stage, &bundle)?, false)?;
    if tree(&bundle.path().join("volume"))? == before {
        Ok(seen)
    } else {
        Err("a read-only mount was changed".to_owned())
    }
}

fn rw_in_ro_root(stage: &Stage) -> Result<Seen, String> {
    let mut bundle = Bundle::new()?;
    bundle.spec()["root"]["readonly"] = true.into();
    fill(&bundle, "volume")?;
    fs::create_dir(bundle.root("mnt")).map_err(|why| why.to_string())?;
    bundle.bind("volume", "/mnt", &["rbind", "rw", "noexec"]);
    script(&mut bundle, &CHANGES.replace("DIR", "/mnt"));
    changed(run(stage, &bundle)?, true)
}

/// What the gofer's mounts are restricted to is not what the container's are: set-user-ID programs are for
/// the sandbox to run, and devices for it to have.
fn set_user_id_and_devices(stage: &Stage) -> Result<Seen, String> {
    let mut bundle = Bundle::new()?;
    fill(&bundle, "volume")?;
    for dir in [bundle.root("bin"), bundle.path().join("volume")] {
        let program = dir.join("set-user-id");
        fs::copy(bundle.root("bin/bash"), &program).map_err(|why| why.to_string())?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o4755))
            .map_err(|why| why.to_string())?;
        let mode = Mode::from_bits_truncate(0o666);
        mknod(&dir.join("zero"), SFlag::S_IFCHR, mode, makedev(1, 5))
            .map_err(|why| why.to_string())?;
    }
    bundle.bind("volume", "/mnt", &["rbind", "rw"]);
    bundle.spec()["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    script(
        &mut bundle,
        "for dir in /bin /mnt; do echo $(stat -c %t:%T $dir/zero) $(head -c 4 $dir/zero | wc -c); \
         done; for dir in /bin /mnt; do stat -c %a $dir/set-user-id; \
         $dir/set-user-id -p -c 'echo $UID $EUID'; done; grep -E ' (/|/mnt) ' /proc/mounts",
    );
    let mut seen = Seen::default();
    seen.success(stage.runsc()?.run(&bundle)?)?;
    let said = seen.said.concat();
    let were_read = said.lines().take(2).all(|line| line.ends_with(" 4"));
    if were_read && said.contains("4755\n1000 ") {
        Ok(seen)
    } else {
        Err(said)
    }
}

fn file(stage: &Stage) -> Result<Seen, String> {
    let mut bundle = Bundle::new()?;
    fill(&bundle, "volume")?;
    bundle.bind("volume/given", "/etc/given", &["rw"]);
    bundle.bind("volume/kept", "/etc/kept", &["ro"]);
    script(
        &mut bundle,
        "cat /etc/given /etc/kept; echo more >>/etc/given && ! (echo more >>/etc/kept); \
         cat /etc/given /etc/kept; stat -c '%F %s %a' /etc/given /etc/kept",
    );
    let seen = run(stage, &bundle)?;
    match fs::read_to_string(bundle.path().join("volume/given")) {
        Ok(text) if text == "given\nmore\n" => Ok(seen),
        other => Err(format!("the host has {other:?}")),
    }
}

/// Links in a destination are followed inside the root, wherever they would lead outside.
fn symlinked_destination(stage: &Stage) -> Result<Seen, String> {
    let mut bundle = Bundle::new()?;
    fill(&bundle, "volume")?;
    fs::create_dir_all(bundle.root("real/place")).map_err(|why| why.to_string())?;
    symlink("/real", bundle.root("link")).map_err(|why| why.to_string())?;
    symlink("../link/place", bundle.root("real/again")).map_err(|why| why.to_string())?;
    bundle.bind("volume", "/link/again", &["rw"]);
    script(
        &mut bundle,
        "ls /real/place; echo new >/real/place/new; grep -o ' /real/[^ ]*' /proc/mounts",
    );
    let seen = run(stage, &bundle)?;
    if bundle.path().join("volume/new").exists() {
        Ok(seen)
    } else {
        Err(format!("not mounted there: {:?}", seen.said))
    }
}

fn escaping_destination(stage: &Stage) -> Result<Seen, String> {
    let mut bundle = Bundle::new()?;
    fill(&bundle, "volume")?;
    symlink("../../../../escape", bundle.root("out")).map_err(|why| why.to_string())?;
    bundle.bind("volume", "/out/../out", &["rw"]);
    script(&mut bundle, "ls /escape");
    let seen = run(stage, &bundle)?;
    if fs::symlink_metadata(bundle.path().join("escape")).is_ok() {
        return Err("made outside of the root".to_owned());
    }
    Ok(seen)
}

fn new_destination(stage: &Stage) -> Result<Seen, String> {
    let mut bundle = Bundle::new()?;
    fill(&bundle, "volume")?;
    bundle.bind("volume", "/a/new/place", &["rw"]);
    bundle.bind("volume/kept", "/another/new/file", &["rw"]);
    script(&mut bundle, "ls /a/new/place; cat /another/new/file");
    run(stage, &bundle)
}

fn nested(stage: &Stage) -> Result<Seen, String> {
    let mut bundle = Bundle::new()?;
    fill(&bundle, "outer/inner")?;
    fill(&bundle, "volume")?;
    bundle.bind("outer", "/mnt", &["ro"]);
    bundle.bind("volume", "/mnt/inner", &["rw"]);
    script(
        &mut bundle,
        "ls /mnt /mnt/inner; echo new >/mnt/inner/new; ! (echo no >/mnt/no)",
    );
    let seen = run(stage, &bundle)?;
    if bundle.path().join("volume/new").exists() {
        Ok(seen)
    } else {
        Err("the inner mount is not there".to_owned())
    }
}

/// Each mount has a connection of its own, and they must not be mixed up.
fn many(stage: &Stage) -> Result<Seen, String> {
    let mut bundle = Bundle::new()?;
    for number in 0..20 {
        let volume = format!("volume-{number}");
        fs::create_dir(bundle.path().join(&volume)).map_err(|why| why.to_string())?;
        fs::write(
            bundle.path().join(&volume).join("name"),
            format!("{number}\n"),
        )
        .map_err(|why| why.to_string())?;
        let options = if number % 2 == 0 { ["rw"] } else { ["ro"] };
        bundle.bind(&volume, &format!("/mnt/{number}"), &options);
    }
    script(
        &mut bundle,
        "for i in $(seq 0 19); do cat /mnt/$i/name; echo $i 2>/dev/null >/mnt/$i/new; done; \
         ls /mnt/*/new",
    );
    let mut seen = Seen::default();
    seen.success(stage.runsc()?.run(&bundle)?)?;
    let names: String = (0..20).map(|number| format!("{number}\n")).collect();
    if !seen.said.concat().starts_with(&names) {
        return Err(format!("mixed up: {:?}", seen.said));
    }
    for number in 0..20 {
        let written = bundle.path().join(format!("volume-{number}/new")).exists();
        if written != (number % 2 == 0) {
            return Err(format!("volume {number}: written {written}"));
        }
    }
    Ok(seen)
}

/// What the sandbox is told of the mounts is longer than a pipe holds.
fn long_list(stage: &Stage) -> Result<Seen, String> {
    const MOUNTS: usize = 300;
    let mut seen = Seen::default();
    let mut bundle = Bundle::new()?;
    let long = "m".repeat(250);
    for number in 0..MOUNTS {
        let destination = format!("/mnt/{number}/{long}");
        // Each that is served takes the sandbox and the gofer a connection.
        if number % 3 != 0 {
            let name = format!("volume-{number}");
            fill(&bundle, &name)?;
            bundle.bind(&name, &destination, &["ro"]);
        } else if let Some(mounts) = bundle.spec()["mounts"].as_array_mut() {
            mounts.push(json!({"destination": destination, "type": "tmpfs"}));
        }
    }
    if bundle.spec()["mounts"].to_string().len() < 64 << 10 {
        return Err("the list is too short".to_owned());
    }
    script(
        &mut bundle,
        "grep -c ' /mnt/' /proc/mounts; cat /mnt/*/*/given | sort | uniq -c | awk '{print $1, $2}'",
    );
    seen.says(stage.runsc()?.run(&bundle)?, "300\n200 given\n")?;
    Ok(seen)
}
