//! Programs at work in a mount.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::fixture::Fixture;
use crate::open_files::bytes;

/// What a program prints in `at`, if it succeeds.
fn run(at: &Path, program: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(at).env("HOME", at);
    for (key, value) in [("NAME", "somebody"), ("EMAIL", "somebody@example.org")] {
        command.env(format!("GIT_AUTHOR_{key}"), value);
        command.env(format!("GIT_COMMITTER_{key}"), value);
    }
    let output = command
        .output()
        .unwrap_or_else(|why| panic!("{program}: {why}"));
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {err}");
    String::from_utf8(output.stdout).unwrap()
}

/// A tree with files of all sizes.
fn plant(at: &Path) {
    for dir in 0..10 {
        let dir = at.join(format!("dir-{dir}"));
        fs::create_dir(&dir).unwrap();
        for file in 0..20 {
            fs::write(dir.join(format!("file-{file}")), bytes(file * file * 37)).unwrap();
        }
        std::os::unix::fs::symlink("file-3", dir.join("link")).unwrap();
        fs::hard_link(dir.join("file-5"), dir.join("hard")).unwrap();
    }
}

pub(crate) fn git_keeps_a_repository() {
    let at = Fixture::new();
    let mounted = at.mount(&[]);
    let repository = mounted.path.join("repository");
    fs::create_dir(&repository).unwrap();
    let git = |arguments: &[&str]| run(&repository, "git", arguments);
    git(&["init", "-q"]);
    plant(&repository);
    git(&["add", "."]);
    git(&["commit", "-qm", "first"]);
    assert_eq!(git(&["status", "--porcelain"]), "");
    fs::write(repository.join("dir-1/file-1"), "changed").unwrap();
    fs::rename(repository.join("dir-2"), repository.join("dir-x")).unwrap();
    assert!(git(&["status", "--porcelain"]).contains(" M dir-1/file-1"));
    git(&["add", "-A"]);
    git(&["commit", "-qm", "second"]);
    git(&["gc", "-q"]);
    git(&["checkout", "-q", "HEAD~1"]);
    assert!(repository.join("dir-2/file-7").exists());
    git(&["checkout", "-q", "-"]);
    assert_eq!(git(&["fsck", "--full", "--strict", "--no-progress"]), "");
    assert_eq!(git(&["log", "--format=%s"]), "second\nfirst\n");
    mounted.end();
    // And as others see it.
    let there = at.path("served").join("repository");
    let safe = ["-c", "safe.directory=*", "fsck", "--full", "--no-progress"];
    assert_eq!(run(&there, "git", &safe), "");
}

pub(crate) fn sqlite_keeps_a_database() {
    for mode in ["DELETE", "WAL"] {
        let at = Fixture::new();
        let mounted = at.mount(&[]);
        let sql = format!(
            "PRAGMA journal_mode={mode}; PRAGMA mmap_size=1000000;
             CREATE TABLE t(k INTEGER PRIMARY KEY, v TEXT);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)
             INSERT INTO t SELECT i, hex(i * i) FROM n;
             CREATE INDEX v ON t(v); DELETE FROM t WHERE k % 3 = 0; VACUUM;"
        );
        run(&mounted.path, "sqlite3", &["db", &sql]);
        let check = "PRAGMA integrity_check; SELECT count(*), sum(k) FROM t;";
        let here = run(&mounted.path, "sqlite3", &["db", check]);
        assert_eq!(here, "ok\n3334|8336667\n", "{mode}");
        mounted.end();
        assert_eq!(run(&at.path("served"), "sqlite3", &["db", check]), here);
    }
}

pub(crate) fn tar_brings_a_tree_back() {
    let at = Fixture::new();
    let (plain, served) = (at.path("plain"), at.path("served"));
    plant(&plain);
    let archive = at.path("archive.tar");
    let archive = archive.to_str().unwrap();
    run(&plain, "tar", &["-cf", archive, "."]);
    let mounted = at.mount(&[]);
    run(&mounted.path, "tar", &["-xpf", archive]);
    // Contents, modes, owners, times and links, from both sides.
    run(&mounted.path, "tar", &["-df", archive]);
    run(&served, "tar", &["-df", archive]);
    let again = at.path("again.tar");
    let again = again.to_str().unwrap();
    run(&mounted.path, "tar", &["-cf", again, "."]);
    run(&plain, "tar", &["-df", again]);
    run(&mounted.path, "rm", &["-r", "dir-1", "dir-2"]);
    assert_eq!(fs::read_dir(&served).unwrap().count(), 8);
    mounted.end();
}

pub(crate) fn direct_io_reads_and_writes() {
    for options in [&[][..], &["--io", "donated"], &["--io", "server"]] {
        let at = Fixture::new();
        let data = bytes(1 << 20);
        let from = at.path("data");
        fs::write(&from, &data).unwrap();
        let mounted = at.mount(options);
        let dd = |from: &str, to: &str, how: &str| {
            let (from, to) = (format!("if={from}"), format!("of={to}"));
            run(
                &mounted.path,
                "dd",
                &[&from, &to, "bs=65536", "status=none", how],
            );
        };
        dd(from.to_str().unwrap(), "file", "oflag=direct");
        dd("file", "copy", "iflag=direct");
        assert!(fs::read(mounted.path.join("copy")).unwrap() == data);
        mounted.end();
        assert!(fs::read(at.path("served").join("file")).unwrap() == data);
    }
}
