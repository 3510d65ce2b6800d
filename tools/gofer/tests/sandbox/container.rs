//! The mounts of a runsc's gofer, which is started as that starts it, but by a shell.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use lisafs::client::{Client, ClientOptions};
use tempfile::{TempDir, tempdir};

use crate::Need;
use crate::process::wait;

pub(crate) const TRIALS: &[(&str, Need, fn())] = &[(
    "mounts_of_a_container_are_for_no_devices_and_no_programs",
    Need::Privileges,
    restricted,
)];

/// What has to be there beforehand, in a mount namespace that goes with the gofer.
const MOUNTS: &str = "for place in root/early volume volume/sub; do mount -t tmpfs none $place; \
                      mkdir -p $place/sub; done";

/// What the descriptors are of. The second socket is stdout.
const DONATED: &str = "exec 3<config.json 4>>log 5>mounts 6<&0 7<&1 0</dev/null 1>/dev/null; \
                       exec \"$0\" runsc -- runsc-gofer \"$@\"";

/// A bundle with a root and a volume, both of which have mounts below.
fn bundle(readonly: bool) -> TempDir {
    let bundle = tempdir().unwrap();
    for dir in ["root/early", "volume"] {
        fs::create_dir_all(bundle.path().join(dir)).unwrap();
    }
    let spec = serde_json::json!({
        "root": {"path": "root", "readonly": readonly},
        "mounts": [{"destination": "/mnt", "type": "bind", "source": "volume",
                    "options": ["rbind", "rw"]}],
    });
    fs::write(bundle.path().join("config.json"), spec.to_string()).unwrap();
    bundle
}

/// By their places, the attributes of the mounts that a process sees.
fn mounts(pid: u32) -> BTreeMap<String, Vec<String>> {
    let list = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    let lines = list.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let split = |options: &str| options.split(',').map(str::to_owned).collect();
    lines
        .map(|fields| (fields[4].to_owned(), split(fields[5])))
        .collect()
}

fn restricted() {
    for (policy, readonly, is_nodev) in [
        ("emulated-only", false, true),
        ("emulated-only", true, true),
        // The sandbox is to open devices of the host.
        ("passthrough", false, false),
    ] {
        let bundle = bundle(readonly);
        let (root, theirs) = UnixStream::pair().unwrap();
        let (volume, its) = UnixStream::pair().unwrap();
        let mut gofer = Command::new("unshare")
            .args(["--mount", "--", "/bin/sh", "-e", "-c"])
            .arg(format!("{MOUNTS}; {DONATED}"))
            .arg(env!("CARGO_BIN_EXE_lisafs-gofer"))
            .arg(format!("--character-device-policy={policy}"))
            .args(["--log-fd=4", "--directfs=false", "gofer"])
            .args(["--gofer-mount-confs=lisafs:none,lisafs:none"])
            .args(["--io-fds=6", "--io-fds=7", "--spec-fd=3", "--mounts-fd=5"])
            .arg("--bundle")
            .arg(bundle.path())
            .arg("id")
            .current_dir(bundle.path())
            .stdin(OwnedFd::from(theirs))
            .stdout(OwnedFd::from(its))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let connect = |socket| -> Client {
            let options = ClientOptions::new().channels(0);
            options.from_stream(socket).unwrap()
        };
        let (root, volume) = (connect(root), connect(volume));
        volume.write("sub/new", b"new").unwrap();
        assert_eq!(root.write("early/new", b"new").is_err(), readonly);
        let mounts = mounts(gofer.id());
        let places: Vec<_> = mounts.keys().map(String::as_str).collect();
        assert_eq!(places, ["/", "/early", "/mnt", "/mnt/sub"], "{policy}");
        for (place, attributes) in mounts {
            let has = |name: &str| attributes.iter().any(|it| it == name);
            let expected = is_nodev || readonly && place == "/";
            assert!(has("nosuid"), "{policy} {place}: {attributes:?}");
            assert_eq!(has("nodev"), expected, "{policy} {place}: {attributes:?}");
            let is_readonly = readonly && !place.starts_with("/mnt");
            assert_eq!(has("ro"), is_readonly, "{policy} {place}: {attributes:?}");
        }
        drop((root, volume));
        assert_eq!(wait(&mut gofer).code(), Some(0), "{policy}");
    }
}
