use std::fs;
use std::os::unix::fs::symlink;

use super::{EVERYTHING, Served};
use crate::Errno;
use crate::host::handle::Handle;
use crate::host::kernel::Kernel;
use crate::host::options::{HostOptions, Xattrs};
use crate::wire::{StringArrayBuf, XattrName};

fn xattr(name: &str) -> XattrName<'_> {
    XattrName::new(name.as_bytes()).unwrap()
}

fn set(served: &Served, handle: &Handle, name: &str, value: &[u8]) -> Result<(), Errno> {
    served.host.set_xattr(handle, xattr(name), value, 0)
}

fn get(served: &Served, handle: &Handle, name: &str, limit: usize) -> Result<Vec<u8>, Errno> {
    let mut value = b"before".to_vec();
    let result = served
        .host
        .get_xattr(handle, xattr(name), limit, &mut value);
    assert!(value.starts_with(b"before"));
    let value = value.split_off(6);
    if result.is_err() {
        assert_eq!(value, b"", "an error leaves nothing behind");
    }
    result.map(|()| value)
}

fn list(served: &Served, handle: &Handle, limit: usize) -> Result<Vec<String>, Errno> {
    let mut names = StringArrayBuf::default();
    served.host.list_xattr(handle, limit, &mut names)?;
    let names = names.as_array();
    Ok(names
        .iter()
        .map(|name| String::from_utf8(name.to_vec()).unwrap())
        .collect())
}

#[test]
fn attributes_are_set_got_listed_and_removed_through_the_handle() {
    let served = Served::new();
    fs::write(served.path("file"), "").unwrap();
    let handle = served.walk("file");
    handle.hold().unwrap();
    fs::remove_file(served.path("file")).unwrap();
    fs::write(served.path("file"), "another").unwrap();
    assert_eq!(get(&served, &handle, "user.a", 100), Err(Errno::ENODATA));
    assert_eq!(set(&served, &handle, "user.a", b"one"), Ok(()));
    assert_eq!(set(&served, &handle, "user.b", b""), Ok(()));
    assert_eq!(get(&served, &handle, "user.a", 100), Ok(b"one".to_vec()));
    assert_eq!(get(&served, &handle, "user.b", 0), Ok(Vec::new()));
    let mut names = list(&served, &handle, 65_536).unwrap();
    names.retain(|name| name.starts_with("user."));
    names.sort();
    assert_eq!(names, ["user.a", "user.b"]);
    assert_eq!(served.host.remove_xattr(&handle, xattr("user.a")), Ok(()));
    assert_eq!(
        served.host.remove_xattr(&handle, xattr("user.a")),
        Err(Errno::ENODATA)
    );
    assert_eq!(
        get(&served, &served.walk("file"), "user.b", 100),
        Err(Errno::ENODATA)
    );
}

#[test]
fn a_limit_is_kept_to_the_byte() {
    let served = Served::new();
    fs::write(served.path("file"), "").unwrap();
    let handle = served.walk("file");
    for length in [1, 255, 256, 257, 2000] {
        let value = vec![b'v'; length];
        set(&served, &handle, "user.a", &value).unwrap();
        assert_eq!(get(&served, &handle, "user.a", length).as_ref(), Ok(&value));
        assert_eq!(get(&served, &handle, "user.a", 65_536), Ok(value));
        assert_eq!(
            get(&served, &handle, "user.a", length - 1),
            Err(Errno::ERANGE)
        );
        assert_eq!(get(&served, &handle, "user.a", 0), Err(Errno::ERANGE));
    }
    let names = list(&served, &handle, 65_536).unwrap();
    let length = names.iter().map(|name| name.len() + 1).sum();
    assert_eq!(list(&served, &handle, length), Ok(names));
    assert_eq!(list(&served, &handle, length - 1), Err(Errno::ERANGE));
}

/// The runtime refuses it, for want of a longer length field; that is not for the back end to know.
#[test]
fn the_longest_value_there_is_is_told() {
    let shared_memory = tempfile::tempdir_in("/dev/shm").unwrap();
    let served = Served::at(shared_memory, EVERYTHING, Kernel::probe());
    fs::write(served.path("file"), "").unwrap();
    let handle = served.walk("file");
    let value = [b'v'; 65_536];
    // tmpfs has user attributes from Linux 6.6; few other file systems have them this long.
    match set(&served, &handle, "user.a", &value) {
        Ok(()) => {
            assert_eq!(
                get(&served, &handle, "user.a", 65_536).as_deref(),
                Ok(&value[..])
            );
            assert_eq!(get(&served, &handle, "user.a", 65_535), Err(Errno::ERANGE));
        }
        refused => assert_eq!(refused, Err(Errno::EOPNOTSUPP)),
    }
}

#[test]
fn create_and_replace_are_the_only_flags() {
    let served = Served::new();
    fs::write(served.path("file"), "").unwrap();
    let handle = served.walk("file");
    let set = |flags| served.host.set_xattr(&handle, xattr("user.a"), b"x", flags);
    assert_eq!(set(2), Err(Errno::ENODATA));
    assert_eq!(set(1), Ok(()));
    assert_eq!(set(1), Err(Errno::EEXIST));
    assert_eq!(set(2), Ok(()));
    for flags in [3, 4, u32::MAX] {
        assert_eq!(set(flags), Err(Errno::EINVAL));
    }
}

/// The kernel has no `user.` attributes on these types, and says so about the link, not its target.
#[test]
fn symlinks_and_sockets_answer_for_themselves() {
    let served = Served::new();
    fs::write(served.path("file"), "").unwrap();
    symlink("file", served.path("link")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(served.path("socket")).unwrap();
    set(&served, &served.walk("file"), "user.a", b"x").unwrap();
    let link = served.walk("link");
    assert_eq!(set(&served, &link, "user.a", b"y"), Err(Errno::EPERM));
    assert!(matches!(
        get(&served, &link, "user.a", 10),
        Err(Errno::ENODATA | Errno::EPERM)
    ));
    if super::is_root() {
        for path in ["link", "socket"] {
            let handle = served.walk(path);
            assert_eq!(set(&served, &handle, "trusted.a", b"t"), Ok(()));
            assert_eq!(get(&served, &handle, "trusted.a", 10), Ok(b"t".to_vec()));
            assert_eq!(
                list(&served, &handle, 100),
                Ok(vec!["trusted.a".to_owned()])
            );
        }
        let file = served.walk("file");
        assert_eq!(get(&served, &file, "trusted.a", 10), Err(Errno::ENODATA));
    }
}

#[test]
fn policy_hides_attributes_from_every_operation() {
    let hidden = [
        (Xattrs::User, "trusted.a", true),
        (Xattrs::None, "user.a", false),
    ];
    for (xattrs, name, lists) in hidden {
        let served = Served::with(
            HostOptions {
                xattrs,
                ..EVERYTHING
            },
            Kernel::probe(),
        );
        fs::write(served.path("file"), "").unwrap();
        let handle = served.walk("file");
        let refused = Errno::EOPNOTSUPP;
        assert_eq!(set(&served, &handle, name, b"x"), Err(refused));
        assert_eq!(get(&served, &handle, name, 10), Err(refused));
        assert_eq!(served.host.remove_xattr(&handle, xattr(name)), Err(refused));
        assert_eq!(list(&served, &handle, 10).is_ok(), lists);
        if lists {
            assert_eq!(set(&served, &handle, "user.a", b"x"), Ok(()));
            assert_eq!(list(&served, &handle, 10), Ok(vec!["user.a".to_owned()]));
        }
    }
}
