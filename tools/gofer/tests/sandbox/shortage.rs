//! Places where a part of the sandbox cannot be had: `strict` says what to do and does not serve, and
//! `best-effort` serves with all the others.

use std::fs;
use std::process::{Command, Output, Stdio};

use lisafs::client::ClientOptions;
use serde_json::Value;
use tempfile::{TempDir, tempdir};

use crate::Need;
use crate::process::{Gofer, Status, wait};

pub(crate) const TRIALS: &[(&str, Need, fn())] = &[
    (
        "root_who_may_not_mount_misses_nothing",
        Need::Privileges,
        without_the_capability_to_mount,
    ),
    (
        "root_who_may_not_bound_its_capabilities",
        Need::Privileges,
        without_the_capability_to_bound,
    ),
    (
        "where_no_mount_namespace_can_be_made",
        Need::UserNamespaces,
        without_mount_namespace,
    ),
    (
        "where_no_user_namespace_can_be_made",
        Need::UserNamespaces,
        without_user_namespace,
    ),
    ("where_the_root_is_no_mount", Need::Privileges, in_a_chroot),
    (
        "nothing_is_missing_where_procfs_shows_processes_only",
        Need::Privileges,
        with_processes_only,
    ),
    ("where_there_is_no_procfs", Need::Privileges, without_procfs),
    (
        "nothing_is_missing_where_sigchld_is_ignored",
        Need::Nothing,
        with_sigchld_ignored,
    ),
    (
        "nothing_is_missing_in_a_user_namespace",
        Need::UserNamespaces,
        nested,
    ),
    (
        "supplementary_groups_are_given_up",
        Need::Privileges,
        with_groups,
    ),
    (
        "nor_where_groups_cannot_be_given_up",
        Need::Privileges,
        nested_with_groups,
    ),
];

/// Root of a user namespace.
const NESTED: [&str; 3] = ["unshare", "--user", "--map-root-user"];

/// CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER and FSETID, of which no place takes anything away.
const FOR_FILES: u64 = 0x1f;

pub(crate) fn can_unshare() -> bool {
    let output = Command::new(NESTED[0])
        .args([&NESTED[1..], &["--mount", "true"]].concat())
        .output();
    output.is_ok_and(|output| output.status.success())
}

/// A place to start gofers in: the words before theirs.
struct Place<'p> {
    words: &'p [&'p str],
    dir: TempDir,
}

/// What the shell is given as a script, so that a sysctl of its namespace is 0 for what it executes.
const WITHOUT: &str = "echo 0 >/proc/sys/user/\"$0\" && exec \"$@\"";

impl Place<'_> {
    fn new<'p>(words: &'p [&'p str]) -> Place<'p> {
        let dir = tempdir().unwrap();
        fs::create_dir(dir.path().join("root")).unwrap();
        Place { words, dir }
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = Command::new(self.words[0]);
        command.args(&self.words[1..]);
        command.arg(env!("CARGO_BIN_EXE_lisafs-gofer")).args(more);
        command
    }

    /// What one says that is to end by itself.
    fn finish(&self, more: &[&str]) -> Output {
        let mut child = self
            .command(more)
            .arg(self.dir.path().join("root"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        wait(&mut child);
        child.wait_with_output().unwrap()
    }

    /// The layers that `check` finds missing. It agrees with itself.
    fn missing(&self) -> Vec<String> {
        let output = self.finish(&["check", "--json"]);
        let found: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|why| panic!("{why}: {output:?}"));
        let layers = found["layers"].as_array().unwrap().iter();
        let missing = layers.filter(|layer| layer["in_force"] == false);
        let missing = missing.map(|layer| {
            assert!(layer["advice"].is_string(), "{layer}");
            layer["layer"].as_str().unwrap().to_owned()
        });
        let missing: Vec<_> = missing.collect();
        assert_eq!(found["strict"], missing.is_empty());
        assert_eq!(output.status.success(), missing.is_empty());
        missing
    }

    /// # Panics
    /// If one starts with `strict`, or does not say `advice`.
    fn assert_refused(&self, advice: &str) {
        let socket = self.dir.path().join("refused");
        let socket = socket.to_str().unwrap();
        let output = self.finish(&["serve", "--listen", socket]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{said}");
        for part in [advice, "--sandbox best-effort", "lisafs-gofer check"] {
            assert!(said.contains(part), "{part} is not in: {said}");
        }
        assert!(!fs::exists(socket).unwrap(), "a socket is left");
    }

    /// # Panics
    /// If anything is missing, or one does not start with `strict`.
    fn assert_complete(self) {
        assert_eq!(self.missing(), [""; 0]);
        self.assert_serves("strict", &[]);
    }

    /// # Panics
    /// If one does not serve, does not log what is `missing`, or is without what is not.
    fn assert_serves(self, sandbox: &str, missing: &[String]) {
        let log = self.dir.path().join("log");
        let mut command = self.command(&["serve", "--log", "info", "--sandbox", sandbox]);
        command.stderr(fs::File::create(&log).unwrap());
        let root = self.dir.path().join("root");
        let gofer = Gofer::spawn(command, self.dir, root);
        let client = gofer.connect(&ClientOptions::new());
        client.write("file", b"data").unwrap();
        client.rename("file", "moved").unwrap();
        assert_eq!(client.read("moved").unwrap(), b"data");
        let status = fs::read_to_string(format!("/proc/{}/status", gofer.pid())).unwrap();
        for part in ["NoNewPrivs:\t1\n", "Seccomp:\t2\n"] {
            assert!(status.contains(part), "{status}");
        }
        let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        let effective = u64::from_str_radix(effective.unwrap().trim(), 16).unwrap();
        assert_eq!(effective & !FOR_FILES, 0, "{effective:x}");
        let log = fs::read_to_string(log).unwrap();
        let lines = |word: &str| log.lines().filter(|line| line.contains(word)).count();
        assert_eq!(lines(" missing: "), missing.len(), "{log}");
        assert_eq!(lines(" in force: "), 8 - missing.len(), "{log}");
    }
}

/// # Panics
/// If anything but `missing` is missing there, or the gofer does not do about it what it should.
fn assert_short_of(words: &[&str], missing: &[&str], advice: &str) {
    let place = Place::new(words);
    let found = place.missing();
    assert_eq!(found, missing);
    place.assert_refused(advice);
    place.assert_serves("best-effort", &found);
}

fn without_the_capability_to_mount() {
    let place = Place::new(&["setpriv", "--bounding-set", "-sys_admin"]);
    place.assert_complete();
}

fn without_the_capability_to_bound() {
    assert_short_of(
        &["setpriv", "--bounding-set", "-setpcap"],
        &["capabilities"],
        "--cap-add SETPCAP",
    );
}

fn without_mount_namespace() {
    let shell = ["sh", "-c", WITHOUT, "max_mnt_namespaces"];
    assert_short_of(
        &[&NESTED[..], &shell].concat(),
        &["namespaces", "pivot_root"],
        "user.max_mnt_namespaces",
    );
}

/// As somebody who is not root there, and needs one to have any other.
fn without_user_namespace() {
    let nobody = ["--map-user=65534", "--map-group=65534", "--keep-caps"];
    let shell = ["sh", "-c", WITHOUT, "max_user_namespaces"];
    let plain = ["setpriv", "--inh-caps=-all", "--ambient-caps=-all"];
    assert_short_of(
        &[&NESTED[..2], &nobody, &shell, &plain].concat(),
        &["namespaces", "pivot_root"],
        "user.max_user_namespaces",
    );
}

/// Has a file system of its own hold a directory that looks like the root, and makes that the root.
const CHROOT: &str = "mount -t tmpfs tmpfs /mnt && mkdir /mnt/root && for it in /*; do \
                      if [ -L \"$it\" ]; then cp -P \"$it\" /mnt/root/; \
                      elif [ -d \"$it\" ]; then mkdir \"/mnt/root$it\" && \
                      mount --rbind \"$it\" \"/mnt/root$it\"; fi; done; \
                      exec chroot /mnt/root \"$0\" \"$@\"";

fn in_a_chroot() {
    let words = ["unshare", "--mount", "sh", "-c", CHROOT];
    assert_short_of(&words, &["pivot_root"], "not in a chroot(2)");
}

fn with_processes_only() {
    let script = "mount -t proc -o subset=pid proc /proc && exec \"$0\" \"$@\"";
    Place::new(&["unshare", "--mount", "sh", "-c", script]).assert_complete();
}

/// Nothing can be tried there.
fn without_procfs() {
    let script = "mount -t tmpfs tmpfs /proc && exec \"$0\" \"$@\"";
    let words = ["unshare", "--mount", "sh", "-c", script];
    let place = Place::new(&words);
    let socket = place.dir.path().join("refused");
    let serve = ["serve", "--listen", socket.to_str().unwrap()];
    for more in [&["check"][..], &serve] {
        let output = place.finish(more);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("mount a procfs at /proc"), "{said}");
    }
}

/// By whoever has started it, so that nobody can be waited for.
fn with_sigchld_ignored() {
    let place = Place::new(&["env", "--ignore-signal=CHLD"]);
    // What else is missing has other reasons.
    let missing = place.missing();
    assert_eq!(missing, Place::new(&["env"]).missing());
}

fn nested() {
    let words = [&NESTED[..], &["--mount"]].concat();
    Place::new(&words).assert_complete();
}

/// A file of group 34 is nobody's business, nor is a directory that hands the group on.
fn with_groups() {
    for more in [&[][..], &["--bounding-set", "-sys_admin"]] {
        let words = [&["setpriv", "--groups", "12,34"], more].concat();
        let Place { words, dir } = Place::new(&words);
        let mut command = Command::new(words[0]);
        command
            .args(&words[1..])
            .arg(env!("CARGO_BIN_EXE_lisafs-gofer"))
            .arg("serve");
        let root = dir.path().join("root");
        let gofer = Gofer::spawn(command, dir, root);
        let client = gofer.connect(&ClientOptions::new().channels(1));
        client.root().stat().unwrap();
        for thread in Status::of_threads(gofer.pid()) {
            assert_eq!(thread.get("Groups"), "", "{more:?}");
        }
    }
}

/// Who has made the user namespace is not permitted to, and so the root there is not either.
fn nested_with_groups() {
    let groups = ["setpriv", "--groups", "12"];
    let words = [&groups[..], &NESTED, &["--mount"]].concat();
    Place::new(&words).assert_complete();
}
