//! The longest values and lists of attributes there are, through the runtime: on tmpfs, which has them
//! from Linux 6.6, and on what is usually a disk, which has a limit of its own below.

use std::ffi::{CStr, CString};
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::UnixStream;

use super::{EVERYTHING, Served, skip};
use crate::Errno;
use crate::client::{Communicator, Reply, Socket};
use crate::host::kernel::Kernel;
use crate::host::sys;
use crate::server::{ConnectionOpts, Server};
use crate::wire::{
    Encode, FGetXattrReq, FListXattrReq, FRemoveXattrReq, FSetXattrReq, FdId, Request,
    StringArrayBuf, WalkReq,
};

/// The kernel's limit of values and of lists, in bytes.
const MOST: usize = 65_536;

/// The protocol's limit of values.
const LONGEST: usize = 65_535;

const ATTRIBUTE: &CStr = c"user.a";

/// A file, as the host sees it and as a client does.
struct Scene {
    path: CString,
    socket: Socket,
    file: FdId,
    /// Removes the directory, and ends the connection.
    _kept: (tempfile::TempDir, Server<super::HostFs>),
}

impl Scene {
    fn at(place: &str) -> Scene {
        let directory = tempfile::tempdir_in(place).unwrap();
        let Served { directory, host } = Served::at(directory, EVERYTHING, Kernel::probe());
        let on_host = directory.path().join("file");
        fs::write(&on_host, "").unwrap();
        let server = Server::new(1);
        let (ours, theirs) = UnixStream::pair().unwrap();
        let opts = ConnectionOpts::default();
        server.start_connection(theirs, host, opts).unwrap();
        let mut socket = Socket::from(ours);
        let dir_fd = socket.mount().unwrap().root.control_fd;
        let names = StringArrayBuf::collect([&b"file"[..]]).unwrap();
        let path = names.as_array();
        let walk = WalkReq { dir_fd, path };
        let mut reply = Reply::new();
        let walked = socket.call(&walk, &mut reply).unwrap();
        let file = walked.inodes.iter().next().unwrap().control_fd;
        Scene {
            path: CString::new(on_host.into_os_string().into_vec()).unwrap(),
            socket,
            file,
            _kept: (directory, server),
        }
    }

    /// Sets an attribute of the file without asking the server.
    fn set(&self, name: &CStr, value: &[u8]) -> Result<(), Errno> {
        Ok(sys::setxattr(&self.path, name, value, 0)?)
    }

    fn call<R: Request>(&mut self, request: &R) -> Result<(), Errno> {
        let mut reply = Reply::new();
        let done = self.socket.call(request, &mut reply);
        done.map(drop).map_err(|error| error.errno())
    }

    /// How long the value is that a client gets.
    fn get(&mut self, buf_size: u32) -> Result<usize, Errno> {
        let name = ATTRIBUTE.to_bytes();
        let fd = self.file;
        let mut reply = Reply::new();
        let request = FGetXattrReq { fd, buf_size, name };
        let got = self.socket.call(&request, &mut reply);
        Ok(got.map_err(|error| error.errno())?.value.len())
    }

    /// How long the list is that a client gets, each name with a NUL.
    fn list(&mut self, size: u64) -> Result<usize, Errno> {
        let mut reply = Reply::new();
        let request = FListXattrReq {
            fd: self.file,
            size,
        };
        let got = self.socket.call(&request, &mut reply);
        let names = got.map_err(|error| error.errno())?.names;
        Ok(names.iter().map(|name| name.len() + 1).sum())
    }
}

/// What a client that has said `size` is to get of so many bytes.
fn expected(length: usize, size: u64) -> Result<usize, Errno> {
    match usize::try_from(size) {
        Ok(size @ 1..MOST) if length > size => Err(Errno::ERANGE),
        _ => Ok(length),
    }
}

/// What a file system says that has no values of this length, or none at all.
fn is_its_own(errno: Errno) -> bool {
    let full = [nix::Error::ENOSPC, nix::Error::EDQUOT].map(Errno::from);
    full.contains(&errno) || [Errno::E2BIG, Errno::EOPNOTSUPP].contains(&errno)
}

#[test]
fn values_at_the_protocols_limit() {
    let mut longest = None;
    for place in ["/dev/shm", "/var/tmp"] {
        let mut scene = Scene::at(place);
        let (fd, name) = (scene.file, ATTRIBUTE.to_bytes());
        for length in [0, 1, 4096, LONGEST - 1, LONGEST, MOST] {
            let value = vec![b'v'; length];
            let on_host = scene.set(ATTRIBUTE, &value);
            match on_host {
                Ok(()) => longest = longest.max(Some(length)),
                Err(errno) => assert!(is_its_own(errno), "{errno:?} for {length} in {place}"),
            }
            let sizes = [0, 1, 4095, 4096, 4097, 65_534, 65_535, 65_536, 65_537];
            for size in sizes.into_iter().chain([u32::MAX]) {
                let mut wanted = expected(length, size.into());
                if wanted == Ok(MOST) {
                    wanted = Err(Errno::E2BIG);
                }
                if on_host.is_ok() {
                    assert_eq!(scene.get(size), wanted, "{length} for {size} in {place}");
                }
            }
            // What a client sets is what the host would have set.
            if on_host.is_ok() {
                scene.call(&FRemoveXattrReq { fd, name }).unwrap();
            }
            if length > LONGEST {
                continue;
            }
            let flags = 0;
            let request = FSetXattrReq {
                fd,
                flags,
                name,
                value: &value,
            };
            assert_eq!(scene.call(&request), on_host, "{length} in {place}");
            let wanted = on_host.map(|()| length).map_err(|_| Errno::ENODATA);
            match wanted {
                // There are none at all.
                Err(_) if on_host == Err(Errno::EOPNOTSUPP) => {}
                wanted => assert_eq!(scene.get(0), wanted, "{length} in {place}"),
            }
            if on_host.is_ok() {
                scene.call(&FRemoveXattrReq { fd, name }).unwrap();
            }
        }
        // One more cannot be said: its length would be 0, with the value behind it.
        let mut request = Vec::new();
        let empty = FSetXattrReq {
            fd,
            flags: 0,
            name,
            value: b"",
        };
        empty.encode(&mut request).unwrap();
        request.resize(request.len() + MOST, b'v');
        let mut reply = Reply::new();
        let refused = scene
            .socket
            .call_raw(FSetXattrReq::MID, &request, &mut reply);
        assert_ne!(refused.unwrap(), FSetXattrReq::MID);
        assert_eq!(reply.body(), 7_u32.to_le_bytes(), "E2BIG");
        assert!(scene.get(0).is_err(), "a value was set in {place}");
    }
    match longest {
        None => skip("in part, as no file system here has attributes of users"),
        Some(MOST) => {}
        Some(_) => skip(format_args!(
            "in part, as no file system here has values of {MOST} bytes"
        )),
    }
}

#[test]
fn lists_at_the_kernels_limit() {
    let mut scene = Scene::at("/dev/shm");
    // Others may have labels there.
    let before = scene.list(0).unwrap_or(0);
    let name = |number: usize, length: usize| {
        let digits = length - "user.".len();
        CString::new(format!("user.{number:0>digits$}")).unwrap()
    };
    let set = |length: usize, number: usize| scene.set(&name(number, length), b"");
    // 255 names of 255 bytes, and a NUL each; the first makes room for what was there.
    match set(255 - before, 0) {
        Err(Errno::EOPNOTSUPP) => return skip("there are no attributes of users in /dev/shm"),
        done => done.unwrap(),
    }
    for number in 1..255 {
        set(255, number).unwrap();
    }
    for (more, total) in [
        (&[254][..], 65_535),
        (&[255], 65_536),
        (&[127, 128], 65_537),
    ] {
        for (number, length) in (255..).zip(more) {
            scene.set(&name(number, *length), b"").unwrap();
        }
        for size in [0, 1, 65_534, 65_535, 65_536, 65_537, u64::MAX] {
            let wanted = match total {
                // Nor would the host tell it.
                65_537 => Err(Errno::E2BIG),
                total => expected(total, size),
            };
            assert_eq!(scene.list(size), wanted, "{total} for {size}");
        }
        for (number, length) in (255..).zip(more) {
            let (fd, name) = (scene.file, name(number, *length));
            let name = name.to_bytes();
            scene.call(&FRemoveXattrReq { fd, name }).unwrap();
        }
    }
}
