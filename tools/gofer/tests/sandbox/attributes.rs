//! Extended attributes that take more than the capabilities for files.

use std::process::Command;

use lisafs::Errno;
use lisafs::client::ClientOptions;
use tempfile::tempdir;

use crate::Need;
use crate::process::Gofer;

pub(crate) const TRIALS: &[(&str, Need, fn())] = &[(
    "attributes_that_take_capabilities_are_not_set",
    Need::Privileges,
    privileged,
)];

/// Each with a value that the kernel takes: of the second one that permits nothing.
const PRIVILEGED: [(&str, &[u8]); 2] = [
    ("trusted.x", b"x"),
    (
        "security.capability",
        &[0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ),
];

fn privileged() {
    let setpriv = ["setpriv", "--bounding-set", "-sys_admin"];
    for (around, sandbox, expected) in [
        // So it is the sandbox that refuses it, not the file system.
        (&["env"][..], "off", None),
        (&["env"], "strict", Some(Errno::EPERM)),
        (&setpriv, "strict", Some(Errno::EPERM)),
    ] {
        let dir = tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir(&root).unwrap();
        std::fs::write(root.join("file"), "").unwrap();
        let mut command = Command::new(around[0]);
        command.args(&around[1..]);
        command.arg(env!("CARGO_BIN_EXE_lisafs-gofer"));
        command.args(["serve", "--log", "error", "--sandbox", sandbox]);
        let gofer = Gofer::spawn(command, dir, root);
        let client = gofer.connect(&ClientOptions::new());
        let file = client.root().walk_one("file").unwrap();
        file.set_xattr("user.x", b"x", 0).unwrap();
        for (name, value) in PRIVILEGED {
            let set = file.set_xattr(name, value, 0).err();
            let errno = set.map(|why| why.errno());
            assert_eq!(errno, expected, "{name} {around:?} {sandbox}");
        }
    }
}
