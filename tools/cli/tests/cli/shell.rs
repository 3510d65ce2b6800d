//! `shell`, driven through a pipe.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use serde_json::json;

use crate::fixture::{Done, Fixture, done, lisafs, objects};

/// Runs the shell with these lines.
fn run(at: &Fixture, arguments: &[&str], lines: impl AsRef<[u8]>) -> Done {
    let mut script = tempfile::tempfile().unwrap();
    script.write_all(lines.as_ref()).unwrap();
    std::io::Seek::rewind(&mut script).unwrap();
    done(at.command(arguments).stdin(Stdio::from(script)))
}

fn populated() -> Fixture {
    let at = Fixture::new();
    fs::create_dir_all(at.served("dir/below")).unwrap();
    fs::write(at.served("dir/file"), "some data\n").unwrap();
    std::os::unix::fs::symlink("dir", at.served("link")).unwrap();
    at
}

#[test]
fn commands_follow_each_other_in_directories() {
    let at = populated();
    let script = "\
# What is where.
pwd
ls
cd link   # to where it leads
pwd
ls
cat file
cd below/..
cat ./file /dir/file
cd
pwd
exit
cat no/such/file
";
    let done = run(&at, &["shell"], script);
    let out = "/\ndir\nlink\n/dir\nbelow\nfile\nsome data\nsome data\nsome data\n/\n";
    assert_eq!(String::from_utf8(done.success()).unwrap(), out);
}

/// Each of them at a path that does not begin with a slash, where that means something else than at
/// the root.
#[test]
fn every_command_begins_where_the_shell_is() {
    let at = populated();
    let here = at.path("here");
    fs::write(&here, "here\n").unwrap();
    let script = format!(
        "cd dir\n\
         tree\nstat file\nget file {out}\nput {here} copy\nmkdir -p a/b\nmv copy a\n\
         ln a/copy hard\nln -s a/copy soft\nreadlink soft\ntouch new\ntruncate -s 3 hard\n\
         chmod 600 hard\nchown {owner} hard\nstatfs hard\nxattr set hard user.a b\n\
         xattr get hard user.a\nxattr rm hard user.a\nmknod node f\nping -c 2 hard\n\
         put -r {root} tree\nrm -r tree\nls -l\nrpc --walk dir/hard FStat fd=@fd\ninfo\n",
        out = at.path("out").display(),
        here = here.display(),
        root = at.served("dir/below").display(),
        owner = std::os::unix::fs::MetadataExt::uid(&at.root().metadata().unwrap()),
    );
    run(&at, &["shell", "-e"], script).success();
    assert_eq!(fs::read(at.path("out")).unwrap(), b"some data\n");
    assert_eq!(fs::read(at.served("dir/hard")).unwrap(), b"her");
    let names = fs::read_dir(at.served("dir")).unwrap();
    let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["a", "below", "file", "hard", "new", "node", "soft"]);
    assert_eq!(at.text(&["ls"]), "dir\nlink\n");
}

#[test]
fn local_paths_begin_elsewhere() {
    let at = populated();
    fs::create_dir(at.path("local")).unwrap();
    let local = at.path("local").canonicalize().unwrap();
    let script = format!(
        "lcd {}\nlpwd\nget dir/file\nlcd missing\nlcd a\\x00b\n",
        local.display()
    );
    let done = run(&at, &["shell"], script);
    assert_eq!(
        String::from_utf8_lossy(&done.out),
        format!("{}\n", local.display())
    );
    done.says_no("lisafs: missing: No such file or directory\nlisafs: a\\x00b: Invalid argument\n");
    assert_eq!(fs::read(local.join("file")).unwrap(), b"some data\n");
}

#[test]
fn the_exit_status_is_the_worst() {
    let at = populated();
    for (script, code, err) in [
        ("ls\n", 0, ""),
        ("", 0, ""),
        ("ls --help\nhelp\n", 0, ""),
        (
            "cat no\npwd\n",
            1,
            "lisafs: no: No such file or directory\n",
        ),
        ("cd dir/file\n", 1, "lisafs: dir/file: Not a directory\n"),
        ("cd no\n", 1, "lisafs: no: No such file or directory\n"),
        ("'ls\npwd\n", 2, "lisafs: there is no second '\n"),
        ("rpc FStat fd=@open\ncat no\n", 2, "there is no @open yet"),
        ("frobnicate\n", 2, "unrecognized subcommand"),
        ("shell\n", 2, "unrecognized subcommand"),
        ("ls --frobnicate\n", 2, "--frobnicate"),
    ] {
        let done = run(&at, &["shell"], script);
        assert_eq!(done.code, Some(code), "{script}: {}", done.err);
        assert!(done.err.contains(err), "{script}: {}", done.err);
        assert_eq!(
            err.is_empty(),
            done.err.is_empty(),
            "{script}: {}",
            done.err
        );
    }
    let stopped = run(&at, &["shell", "-e"], "cat no\npwd\n");
    assert_eq!((stopped.code, stopped.out), (Some(1), Vec::new()));
}

#[test]
fn the_shell_speaks_to_programs() {
    let at = populated();
    let done = run(&at, &["--json", "shell"], "cd dir\npwd\nls\n").success();
    let objects = objects(&done);
    assert_eq!(objects[0], json!({ "path": "/dir" }));
    assert_eq!(objects[1]["path"], "./below");
    assert_eq!(objects.len(), 3);
}

#[test]
fn any_name_can_be_typed() {
    let at = populated();
    let mut script = b"touch 'a b' \\xff\\x0a \"c'd\" e\\ f \xfe\n".to_vec();
    script.extend(b"ls\n");
    let done = run(&at, &["shell"], script).success();
    assert_eq!(done, b"a b\nc'd\ndir\ne f\nlink\n\xfe\n\xff\n\n");
}

#[test]
fn what_commands_read_is_not_taken_for_commands() {
    let at = populated();
    run(&at, &["shell"], "put - new\nrm new\n").success();
    assert_eq!(fs::read(at.served("new")).unwrap(), b"rm new\n");
}

#[test]
fn a_server_that_is_gone_ends_the_shell() {
    let at = Fixture::new();
    let missing = at.path("missing");
    let done = done(lisafs().arg("--connect").arg(missing).arg("shell"));
    assert_eq!(done.code, Some(2));
    assert!(done.err.contains("no server listens there"), "{}", done.err);
}

/// No new privileges and a filter are what every kernel permits.
#[test]
fn the_server_of_its_own_is_locked_in() {
    let at = Fixture::new();
    let mut shell = at
        .command(&["shell"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    shell
        .stdin
        .as_mut()
        .unwrap()
        .write_all(b"ls\npwd\n")
        .unwrap();
    let mut line = String::new();
    let answers = BufReader::new(shell.stdout.take().unwrap()).read_line(&mut line);
    assert_eq!((answers.unwrap(), &*line), (2, "/\n"));
    let pid = shell.id();
    let server = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", server.trim())).unwrap();
    for part in ["NoNewPrivs:\t1\n", "Seccomp:\t2\n"] {
        assert!(status.contains(part), "{status}");
    }
    drop(shell.stdin.take());
    assert!(shell.wait().unwrap().success());
}
