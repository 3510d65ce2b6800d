//! What programs do with files, each in a container and on a root of its own.

use std::fs;
use std::time::Duration;

use crate::bundle::Bundle;
use crate::metadata;
use crate::probe;
use crate::sandbox::LIMIT;
use crate::stage::{Case, Seen, Stage};
use crate::subject::Release;
use crate::tree_hash::tree;

/// A script, what it needs, and what it must say.
#[derive(Clone, Copy)]
struct Workload {
    name: &'static str,
    prepare: fn(&Bundle) -> Result<(), String>,
    /// Run by `sh -e` in `/w`.
    script: &'static str,
    /// The end of what it says.
    says: &'static str,
    /// What it takes on a machine that does other things as well; too long is forty times that.
    seconds: u64,
}

/// The workloads to try on this stage, and in which way of looking at files.
pub(crate) fn cases(stage: &Stage) -> Vec<Case> {
    let pairs = WORKLOADS.iter().flat_map(|workload| {
        let modes = ["exclusive", "shared"].into_iter();
        modes.map(move |mode| (mode, workload))
    });
    pairs
        .filter(|(mode, workload)| match (stage.release, workload.name) {
            // That gofer has none, and ours has.
            (Release::Debian, "xattr") => false,
            // In the other mode each name is looked at again and again: ten seconds and more.
            (_, "directory-66000") => *mode == "exclusive",
            _ => true,
        })
        .map(|(mode, workload)| Case {
            name: format!(
                "{}/{}/{mode}/{}",
                stage.release.name(),
                stage.platform,
                workload.name
            ),
            stage: stage.clone(),
            act: Box::new(move |stage| run(stage, mode, workload)),
        })
        .collect()
}

fn run(stage: &Stage, mode: &str, workload: &Workload) -> Result<Seen, String> {
    let mut seen = Seen::default();
    let mut bundle = Bundle::new()?;
    fs::create_dir(bundle.root("w")).map_err(|error| error.to_string())?;
    (workload.prepare)(&bundle)?;
    let script = format!("exec 2>&1; cd /w; {}", workload.script);
    bundle.args(&["sh", "-ec", &script]);
    let runsc = stage.runsc()?.flag(format!("--file-access={mode}"));
    let runsc = runsc.within(LIMIT.max(Duration::from_secs(40 * workload.seconds)));
    seen.success(runsc.run(&bundle)?)?;
    if !seen.said.concat().ends_with(workload.says) {
        return Err(format!(
            "it should end by saying {:?}: {:?}",
            workload.says, seen.said
        ));
    }
    seen.tree = tree(&bundle.root(""))?;
    Ok(seen)
}

fn nothing(_: &Bundle) -> Result<(), String> {
    Ok(())
}

/// 200 files in 8 directories.
fn headers(bundle: &Bundle) -> Result<(), String> {
    metadata::write_tree(&bundle.root("w/tree"), 8).map_err(|error| error.to_string())
}

fn git(bundle: &Bundle) -> Result<(), String> {
    headers(bundle)?;
    metadata::configure_git(bundle)
}

fn small_directory(bundle: &Bundle) -> Result<(), String> {
    directory(bundle, 2_000)
}

fn large_directory(bundle: &Bundle) -> Result<(), String> {
    directory(bundle, 66_000)
}

fn directory(bundle: &Bundle, entries: u32) -> Result<(), String> {
    let io = |error: std::io::Error| error.to_string();
    let path = bundle.root("w/large");
    fs::create_dir(&path).map_err(io)?;
    (0..entries)
        .try_for_each(|entry| fs::write(path.join(format!("entry-{entry:05}")), ""))
        .map_err(io)
}

const WORKLOADS: &[Workload] = &[
    Workload {
        name: "find",
        prepare: headers,
        script: "find tree -type f | sort | md5sum; find tree | wc -l",
        says: "209\n",
        seconds: 2,
    },
    Workload {
        name: "ls-lR",
        prepare: headers,
        script: "ls -lR tree | grep -v '^total' | awk '{print $1, $3, $4, $5, $9}' | md5sum; \
                 ls -lR tree | grep -c header",
        says: "200\n",
        seconds: 2,
    },
    Workload {
        name: "grep-r",
        prepare: headers,
        script: "grep -r needle tree | sort | md5sum; grep -rl straw tree | wc -l",
        says: "200\n",
        seconds: 2,
    },
    Workload {
        name: "tar",
        prepare: headers,
        script: "tar cf all.tar tree; mkdir out; tar xf all.tar -C out; rm all.tar; \
                 diff -r tree out/tree; echo same",
        says: "same\n",
        seconds: 4,
    },
    Workload {
        name: "cp-r",
        prepare: headers,
        script: "cp -r tree copy; cp -a tree exact; diff -r tree copy; diff -r copy exact; echo same",
        says: "same\n",
        seconds: 4,
    },
    Workload {
        name: "rm-rf",
        prepare: headers,
        script: "rm -rf tree/directory-1*; ls tree | wc -l; rm -rf tree; ls -A; echo gone",
        says: "7\ngone\n",
        seconds: 2,
    },
    Workload {
        name: "git",
        prepare: git,
        script: "cd tree; git init -q; git add -A; git commit -qm all; git status --short; \
                 echo changed >directory-0/header-0.h; git commit -qam change; \
                 git checkout -q HEAD~1; git fsck; git log --all --format=%H; \
                 git checkout -q main; git gc -q; git status --short; cat directory-0/header-0.h; \
                 rm .git/index",
        says: "changed\n",
        seconds: 12,
    },
    Workload {
        name: "sqlite",
        prepare: nothing,
        script: "sqlite3 db 'create table t(i integer primary key, s text);'; \
                 sqlite3 db 'begin; with recursive n(i) as (select 1 union all select i+1 from n \
                 where i < 5000) insert into t select i, hex(i*i) from n; commit;'; \
                 sqlite3 db 'pragma journal_mode=wal; update t set s = s || 1 where i % 7 = 0;'; \
                 sqlite3 db 'delete from t where i % 3 = 0; vacuum; pragma integrity_check;'; \
                 sqlite3 db 'select count(*), max(s) from t;'",
        says: "ok\n3334|39393931393231\n",
        seconds: 4,
    },
    Workload {
        name: "mmap",
        prepare: |bundle| {
            probe::add(bundle)?;
            fs::write(bundle.root("w/file"), "to be ".repeat(10_000)).map_err(|e| e.to_string())
        },
        script: "probe map file; tail -c 12 file; echo",
        says: "\nto be mapped\n",
        seconds: 2,
    },
    Workload {
        name: "exec",
        prepare: nothing,
        script: "cp /bin/bash copy; ./copy -c 'echo by a copy'; echo 'echo by $0' >script; \
                 sed -i '1i #!/bin/sh' script; ! ./script; chmod 755 script; ./script; \
                 mv script moved; ./moved; for i in $(seq 20); do ./copy -c :; done; echo ran",
        says: "by ./script\nby ./moved\nran\n",
        seconds: 3,
    },
    Workload {
        name: "xattr",
        prepare: probe::add,
        script: "touch file; probe xattr file",
        says: "get: no data available\n",
        seconds: 2,
    },
    Workload {
        name: "hard-links",
        prepare: nothing,
        // With gVisor's gofer, nothing can be linked to once the name is gone that it was found by.
        script: "echo one >a; ln a b; ln b c; stat -c %h a b c; echo two >>c; cat a; ! ln b c; \
                 mkdir d; ln a d/e; mv d/e d/f; stat -c %h b; rm a; stat -c %h b c d/f; \
                 ln -s a soft; ln soft other; ls -l other | cut -c 1; cat d/f",
        says: "l\none\ntwo\n",
        seconds: 2,
    },
    Workload {
        name: "symlinks",
        prepare: nothing,
        script: "mkdir -p a/b; echo deep >a/b/file; ln -s a/b near; ln -s /w/a far; ln -s loop loop; \
                 ln -s nowhere dangling; cat near/file far/b/file; ! cat loop; ! cat dangling; \
                 for i in near far loop dangling; do readlink $i; done; echo through >dangling; cat nowhere; \
                 ln -s \"$(printf %0255d 1)\" long; readlink long | wc -c; rm loop; realpath near/../b",
        says: "256\n/w/a/b\n",
        seconds: 2,
    },
    Workload {
        name: "renames",
        prepare: nothing,
        script: "mkdir -p a/b/c x; echo 1 >a/b/c/one; mv a/b x/moved; cat x/moved/c/one; \
                 echo 2 >two; mv two x/moved/c/one; cat x/moved/c/one; mkdir empty; mv -T empty x/e; \
                 ! mv x x/moved/c; exec 5<x/moved/c/one; mv x/moved y; cat <&5; cat y/c/one; \
                 for i in $(seq 50); do echo $i >t; mv t final; done; cat final; \
                 cd y/c; mv ../../y ../../z; pwd -P; cat one",
        says: "50\n/w/z/c\n2\n",
        seconds: 3,
    },
    Workload {
        name: "unlinked",
        prepare: nothing,
        script: "echo kept >file; exec 5<>file; rm file; cat <&5; echo more >&5; ! cat file; \
                 echo other >file; cat file; mkdir d; cd d; rmdir ../d; ! touch here; \
                 cd ..; ls",
        says: "file\n",
        seconds: 2,
    },
    Workload {
        name: "attributes",
        prepare: nothing,
        script: "touch a.dated b.dated; chmod 4751 a.dated; chown 12:34 a.dated; \
                 touch -d @1234567890 a.dated; touch -d '2001-02-03 04:05:06' b.dated; \
                 umask 027; mkdir private; touch private/file; chmod 1777 private; \
                 chown -h 5:6 private; ln -s x link; chown -h 7:8 link; touch -h -d @99 link; \
                 stat -c '%n %a %u:%g %s' *; stat -c '%n %Y' *.dated",
        says: "a.dated 1234567890\nb.dated 981173106\n",
        seconds: 2,
    },
    Workload {
        name: "contents",
        prepare: nothing,
        script: "dd if=/dev/zero of=zeros bs=64k count=64 2>/dev/null; truncate -s 1000000 zeros; \
                 dd if=/bin/busybox of=parts bs=4099 count=200 2>/dev/null; \
                 dd if=/bin/busybox of=parts bs=1k seek=5000 conv=notrunc count=3 2>/dev/null; \
                 fallocate -l 70000 held; for i in $(seq 200); do echo line $i >>appended; done; \
                 : >appended2; cat appended appended >>appended2; truncate -s 10 appended; \
                 cp appended2 over; echo short >over; sync; md5sum *; tail -n 1 appended2",
        says: "line 200\n",
        seconds: 2,
    },
    Workload {
        name: "unix-sockets",
        prepare: probe::add,
        script: "probe pair socket; ls -l socket | cut -c 1-10; rm socket; probe pair socket; \
                 mv socket moved; ls",
        says: "pong\nmoved\n",
        seconds: 2,
    },
    Workload {
        name: "fifos",
        prepare: nothing,
        script: "mkfifo pipe; (echo through >pipe) & cat pipe; wait; ls -l pipe | cut -c 1-10; \
                 mv pipe moved; (cat moved) & echo again >moved; wait; rm moved; mkfifo -m 600 last",
        says: "again\n",
        seconds: 2,
    },
    Workload {
        name: "devices",
        prepare: nothing,
        script: "mknod null c 1 3 && echo made || echo not made; ls",
        says: "",
        seconds: 2,
    },
    Workload {
        name: "names",
        prepare: nothing,
        script: "touch -- -dash ' space ' 'new\nline' 'quote\"' '*' \"$(printf '\\377\\200')\" äöü; \
                 touch $(printf %0255d 7); ! touch $(printf %0256d 7); mkdir ...; touch .../.h; \
                 d=.; for i in $(seq 60); do d=$d/directory-that-is-deep-$i; done; mkdir -p $d; \
                 echo deep >$d/file; cat $d/file; find . | wc -l",
        says: "deep\n73\n",
        seconds: 3,
    },
    Workload {
        name: "parallel",
        prepare: headers,
        script: "for i in 1 2 3 4 5 6; do (mkdir d$i; for j in $(seq 12); do echo $i >d$i/$j; \
                 mv d$i/$j d$i/m$j; cat d$i/m$j >>d$i/sum; ls d$i >/dev/null; done; \
                 cp -r tree/directory-$i d$i/tree; find tree >/dev/null) & done; wait; \
                 cat d*/sum | sort | uniq -c | awk '{print $1, $2}'",
        says: "12 5\n12 6\n",
        seconds: 6,
    },
    Workload {
        name: "directory-2000",
        prepare: small_directory,
        script: "ls large | wc -l; ls -l large | md5sum >/dev/null; find large -type f | wc -l; \
                 mkdir made; for i in $(seq 2000); do : >made/$i; done; ls made | sort -n | tail -n 1; \
                 rm -r made; rm large/entry-*7; ls large | wc -l",
        says: "2000\n1800\n",
        seconds: 6,
    },
    Workload {
        name: "directory-66000",
        prepare: large_directory,
        script: "set -- large/*; echo $#; ls large | md5sum; rm large/entry-659*; \
                 set -- large/*; echo $#",
        says: "65900\n",
        seconds: 8,
    },
];
