//! The workloads that file systems are made of, as `e2e` times them.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::bundle::Bundle;
use crate::command;

/// Something that is timed, on a directory of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    /// One line of shell.
    pub(crate) script: &'static str,
}

pub(crate) const WORKLOADS: [Workload; 7] = [
    Workload {
        name: "find",
        script: "for i in 1 2 3 4 5; do find /tree >/dev/null || exit 1; done",
    },
    Workload {
        name: "ls",
        script: "for i in 1 2 3 4 5; do ls -lR /tree >/dev/null || exit 1; done",
    },
    Workload {
        name: "grep",
        script: "for i in 1 2 3 4 5; do grep -r needle /tree >/dev/null || exit 1; done",
    },
    Workload {
        name: "tar",
        script: "mkdir /untarred && tar xf /tree.tar -C /untarred",
    },
    Workload {
        name: "cp",
        script: "cp -r /tree /copied",
    },
    Workload {
        name: "rm",
        script: "rm -rf /doomed",
    },
    Workload {
        name: "git",
        script: "cd /repository && git init -q . && git add -A && git commit -q -m all",
    },
];

/// Settings without which the time of `git` depends on what it finds around it.
const GIT_CONFIG: &str = "[user]\nname = a\nemail = a@b\n[gc]\nauto = 0\n[maintenance]\nauto = false\n\
                          [init]\ndefaultBranch = main\n";

/// As many as `e2e` times.
const DIRECTORIES: usize = 32;
const FILES_PER_DIRECTORY: usize = 25;

/// Puts what the workloads need into the bundle's root.
pub(crate) fn prepare(bundle: &Bundle) -> Result<(), String> {
    let tree = bundle.root("tree");
    let io = |error: std::io::Error| format!("{}: {error}", tree.display());
    write_tree(&tree, DIRECTORIES).map_err(io)?;
    configure_git(bundle)?;
    let run = |command: &mut Command| {
        command::run(command, Duration::from_secs(60))
            .and_then(command::Finished::success)
            .map(drop)
    };
    for copy in ["doomed", "repository"] {
        run(Command::new("cp")
            .arg("-a")
            .arg(&tree)
            .arg(bundle.root(copy)))?;
    }
    let tar = bundle.root("tree.tar");
    run(Command::new("tar")
        .arg("cf")
        .arg(tar)
        .arg("-C")
        .arg(bundle.root(""))
        .arg("tree"))
}

/// Settles who commits and when, and that nothing is done in the background.
pub(crate) fn configure_git(bundle: &Bundle) -> Result<(), String> {
    let path = bundle.root("root/.gitconfig");
    fs::write(&path, GIT_CONFIG).map_err(|error| format!("{}: {error}", path.display()))
}

/// Directories with 25 files each of 2 to 8 KiB of text, the same ones each time.
pub(crate) fn write_tree(tree: &Path, directories: usize) -> std::io::Result<()> {
    for dir in 0..directories {
        let path = tree.join(format!("directory-{dir}"));
        fs::create_dir_all(&path)?;
        for file in 0..FILES_PER_DIRECTORY {
            let number = dir * FILES_PER_DIRECTORY + file;
            let lines = 64 + number * 7919 % 192;
            let mut text = String::new();
            for line in 0..lines {
                let word = if (number + line).is_multiple_of(997) {
                    "needle"
                } else {
                    "straw"
                };
                text.push_str(&format!(
                    "#define {word}_{number:03}_{line:03} {:08x}\n",
                    number * line
                ));
            }
            fs::write(path.join(format!("header-{file}.h")), text)?;
        }
    }
    Ok(())
}
