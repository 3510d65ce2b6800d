//! `--trace`.

use std::fs;

use crate::fixture::Fixture;

#[test]
fn each_request_is_a_line_on_stderr() {
    let at = Fixture::new();
    fs::write(at.served("file"), "some data").unwrap();
    let done = at.run(&["--trace", "cat", "file"]);
    assert_eq!(done.code, Some(0), "{}", done.err);
    assert_eq!(done.out, b"some data");
    for part in [
        " socket 1 Mount() = {root={control_fd=1, stat={",
        " channel 1.0 Walk(dir_fd=1, path=[\"file\"]) = {status=WALK_SUCCESS, inodes=[{",
        ", flags=O_RDONLY) = {open_fd=3} + 1 descriptor <0.",
    ] {
        assert!(done.err.contains(part), "{part}: {}", done.err);
    }
}

#[test]
fn single_messages_are_traced_as_well() {
    let at = Fixture::new();
    let done = at.run(&[
        "--trace",
        "rpc",
        "UnlinkAt",
        "dir_fd=@root",
        "name=x",
        "flags=0x200",
    ]);
    assert_eq!(done.code, Some(1));
    let line = " socket 1 UnlinkAt(dir_fd=1, flags=AT_REMOVEDIR, name=\"x\") = \
                ENOENT (No such file or directory) <0.";
    assert!(done.err.contains(line), "{}", done.err);
}
