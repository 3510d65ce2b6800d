//! Listing directories that something is mounted in.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use lisafs::client::{Communicator, Reply};
use lisafs::wire::*;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{major, minor};

use crate::scene::Scene;

/// What is told of an entry: inode, device, type.
type Seen = (u64, (u64, u64), u8);

/// In a mount name space of its own, which the threads of the server inherit.
pub(crate) fn entries_are_those_of_what_is_mounted_on_them() {
    let case = || {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        let tmpfs = |on: &Path| {
            mount(Some("tmpfs"), on, Some("tmpfs"), MsFlags::empty(), none).unwrap();
        };
        let ground = tempfile::tempdir().unwrap();
        tmpfs(ground.path());
        let mut scene = Scene::at(tempfile::tempdir_in(ground.path()).unwrap());
        fs::create_dir(scene.path("directory")).unwrap();
        fs::write(scene.path("file"), "").unwrap();
        fs::write(scene.path("plain"), "").unwrap();
        let (mut reply, root) = (Reply::new(), scene.root);
        let fd = scene
            .socket
            .call(&OpenAtReq { fd: root, flags: 0 }, &mut reply)
            .unwrap()
            .open_fd;
        let before = list(&mut scene, fd);
        assert_eq!(before, expected(scene.directory.path()));

        tmpfs(&scene.path("directory"));
        let file = scene.path("file");
        mount(Some("/proc/version"), &file, none, MsFlags::MS_BIND, none).unwrap();
        let after = list(&mut scene, fd);
        assert_eq!(after, expected(scene.directory.path()));
        assert_eq!(after["plain"], before["plain"]);
        assert_ne!(after["directory"].1, before["directory"].1);
        assert_ne!(after["file"].1, before["file"].1);

        drop(scene.socket);
        scene.server.wait();
        let directory = scene.directory;
        for mounted in ["file", "directory"] {
            umount2(&directory.path().join(mounted), MntFlags::MNT_DETACH).unwrap();
        }
        drop(directory);
        umount2(ground.path(), MntFlags::MNT_DETACH).unwrap();
    };
    std::thread::scope(|scope| scope.spawn(case).join().unwrap());
}

fn list(scene: &mut Scene, dir_fd: FdId) -> BTreeMap<String, Seen> {
    let mut all = BTreeMap::new();
    let (mut count, mut reply) = (-1000, Reply::new());
    loop {
        let entries = scene
            .socket
            .call(&Getdents64Req { dir_fd, count }, &mut reply)
            .unwrap();
        if entries.dirents.is_empty() {
            return all;
        }
        all.extend(entries.dirents.iter().map(|entry| {
            let name = String::from_utf8(entry.name.to_vec()).unwrap();
            let device = (u64::from(entry.dev_major), u64::from(entry.dev_minor));
            (name, (entry.ino, device, entry.d_type))
        }));
        count = 1000;
    }
}

/// What stat(2) says about the entries of `directory`.
fn expected(directory: &Path) -> BTreeMap<String, Seen> {
    let entry = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry.unwrap();
        let found = fs::symlink_metadata(entry.path()).unwrap();
        let d_type = u8::try_from((found.mode() & libc::S_IFMT) >> 12).unwrap();
        let seen = (
            found.ino(),
            (major(found.dev()), minor(found.dev())),
            d_type,
        );
        (entry.file_name().into_string().unwrap(), seen)
    };
    fs::read_dir(directory).unwrap().map(entry).collect()
}
