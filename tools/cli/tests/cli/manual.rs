//! `completions` and `man`.

use std::fs;

use crate::fixture::{Fixture, done, lisafs};

#[test]
fn shells_complete_the_command_line() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = done(lisafs().args(["completions", shell])).success();
        let script = String::from_utf8(script).unwrap();
        for word in ["lisafs", "xattr", "no-replace"] {
            assert!(script.contains(word), "{shell} does not know {word}");
        }
        let gofer = done(lisafs().args(["completions", "--gofer", shell])).success();
        let gofer = String::from_utf8(gofer).unwrap();
        for word in ["lisafs-gofer", "host-uds"] {
            assert!(gofer.contains(word), "{shell} does not know {word}");
        }
    }
}

#[test]
fn every_command_has_a_manual_page() {
    let at = Fixture::new();
    let dir = at.path("man/man1");
    done(lisafs().arg("man").arg(&dir)).success();
    for (page, says) in [
        ("lisafs.1", "conform"),
        ("lisafs-tree.1", "levels"),
        ("lisafs-xattr-set.1", "stdin"),
        ("lisafs-shell.1", "tab key"),
        ("lisafs-gofer.1", "serve"),
        ("lisafs-gofer-serve.1", "host\\-uds"),
    ] {
        let page = fs::read_to_string(dir.join(page)).unwrap();
        assert!(page.starts_with(".ie"), "{page}");
        assert!(page.contains(".TH ") && page.contains(says), "{page}");
    }
    let mut pages = fs::read_dir(&dir).unwrap();
    let hidden = |page: fs::DirEntry| page.path().display().to_string().contains("internal");
    assert!(!pages.any(|page| hidden(page.unwrap())));
    let one = done(lisafs().arg("man")).success();
    assert!(one == fs::read(dir.join("lisafs.1")).unwrap());
    fs::write(at.path("file"), "").unwrap();
    let failed = done(lisafs().arg("man").arg(at.path("file/man")));
    assert_eq!(failed.code, Some(2));
    assert!(failed.err.contains("Not a directory"), "{}", failed.err);
}
