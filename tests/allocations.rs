//! How often a request allocates: never, if it makes no object.
//!
//! From the word that says a request is there to the word that says a reply is there, on a real
//! channel, with the host back end. The client that asks does not allocate either, so what its
//! thread does is counted as well; one test, because others would be counted too, and a `main` of its own,
//! because the standard harness allocates when it says that a test takes long.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)] // a test may panic
#![expect(unsafe_code, reason = "an allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use flipcall::{Spinners, WaitPolicy};
use libtest_mimic::{Arguments, Trial};
use lisafs::client::{Channel, Communicator, Reply, Socket};
use lisafs::host::{HostFs, HostOptions, HostUds, Xattrs};
use lisafs::server::{ConnectionOpts, Server};
use lisafs::wire::*;

/// The system's allocator, with a count of what it was asked for.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every method does what `System` does, which keeps the promises of the trait, and counts.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, SeqCst);
        // SAFETY: the caller's promises are those that `System` wants.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, SeqCst);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, SeqCst);
        // SAFETY: as above; `old` comes from `System`, as all memory of this allocator does.
        unsafe { System.realloc(old, layout, size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: as for `realloc`.
        unsafe { System.dealloc(old, layout) }
    }
}

const WARM_UP: u64 = 50;
const REQUESTS: u64 = 200;

/// Counts the allocations of `REQUESTS` calls of `request`, after some to warm up.
fn allocations(mut request: impl FnMut()) -> u64 {
    (0..WARM_UP).for_each(|_| request());
    let before = ALLOCATIONS.load(SeqCst);
    (0..REQUESTS).for_each(|_| request());
    ALLOCATIONS.load(SeqCst) - before
}

/// A channel and what is needed to use it again and again.
struct Line {
    channel: Channel,
    reply: Reply,
}

impl Line {
    fn call<R: Request>(&mut self, request: &R) -> R::Reply<'_> {
        self.channel.call(request, &mut self.reply).unwrap()
    }

    fn walk(&mut self, walk: &WalkReq<'_>) -> FdId {
        let inodes = self.call(walk).inodes;
        inodes.iter().next().unwrap().control_fd
    }

    fn open(&mut self, fd: FdId, flags: i32) -> FdId {
        let flags = flags.cast_unsigned();
        self.call(&OpenAtReq { fd, flags }).open_fd
    }

    fn close(&mut self, fds: &[FdId]) {
        self.call(&CloseReq {
            fds: Array::new(fds),
        });
    }
}

fn names(name: &[u8]) -> StringArrayBuf {
    StringArrayBuf::collect([name]).unwrap()
}

const NAME: &str = "requests_that_make_no_object_allocate_nothing";

fn main() -> ExitCode {
    let test = Trial::test(NAME, || {
        requests_that_make_no_object_allocate_nothing();
        Ok(())
    });
    let mut arguments = Arguments::from_args();
    // On this thread: another one could still be starting while allocations are counted.
    arguments.test_threads = Some(1);
    libtest_mimic::run(&arguments, vec![test]).exit_code()
}

fn requests_that_make_no_object_allocate_nothing() {
    for wait in [
        WaitPolicy::Park,
        WaitPolicy::Spin(Duration::from_micros(5)),
        WaitPolicy::Adaptive,
    ] {
        serve_and_count(wait);
    }
}

/// Both sides wait for each other like that.
fn serve_and_count(wait: WaitPolicy) {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::write(path("file"), [7; 8192]).unwrap();
    fs::write(path("unknown"), "").unwrap();
    symlink("where it leads", path("link")).unwrap();
    fs::create_dir(path("sub")).unwrap();
    (0..300).for_each(|number| fs::write(path(&format!("sub/{number}")), "").unwrap());

    let server = Server::new(1);
    let options = HostOptions {
        xattrs: Xattrs::All,
        host_uds: HostUds::Create,
        ..HostOptions::default()
    };
    let opts = ConnectionOpts {
        wait,
        ..ConnectionOpts::default()
    };
    let host = HostFs::open(directory.path(), options).unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    server.start_connection(theirs, host, opts).unwrap();
    let mut socket = Socket::from(ours);
    let root = socket.mount().unwrap().root.control_fd;
    let channel = socket.open_channel(wait, &Spinners::new());
    let line = &mut Line {
        channel: channel.unwrap(),
        reply: Reply::new(),
    };

    let (file_path, link_path, sub_path) = (names(b"file"), names(b"link"), names(b"sub"));
    let absent_path = names(b"absent");
    let deep_path = StringArrayBuf::collect([&b"sub"[..], b"7"]).unwrap();
    let walk_to = |path| WalkReq { dir_fd: root, path };
    let file = line.walk(&walk_to(file_path.as_array()));
    let link = line.walk(&walk_to(link_path.as_array()));
    let sub = line.walk(&walk_to(sub_path.as_array()));
    let open = line.open(file, libc::O_RDWR);
    let open_sub = line.open(sub, libc::O_RDONLY);

    let mark = FSetXattrReq {
        fd: file,
        flags: 0,
        name: b"user.mark",
        value: b"value",
    };
    let marked = line.channel.call(&mark, &mut line.reply);
    let marks = marked
        .inspect_err(|why| {
            eprintln!("skipped: {NAME}: in part, as there are no extended attributes here, {why}");
        })
        .is_ok();
    let create = || CreateCommon {
        dir_fd: root,
        uid: Uid::NONE,
        gid: Gid::NONE,
        mode: 0o755,
    };
    let bound = line.call(&BindAtReq {
        create: create(),
        sock_type: libc::SOCK_STREAM.cast_unsigned(),
        name: b"socket",
    });
    let bound = bound.bound_socket_fd;
    drop(line.reply.take_fd());

    let rename = |line: &mut Line, [old_name, new_name]: [&[u8]; 2]| {
        line.call(&RenameAtReq {
            old_dir: root,
            new_dir: root,
            old_name,
            new_name,
        });
    };

    let mut never = |what: &str, request: &mut dyn FnMut(&mut Line)| {
        assert_eq!(allocations(|| request(line)), 0, "{what}, {wait}");
    };
    never("FStat of a position", &mut |line| {
        line.call(&StatReq { fd: file });
    });
    never("FStat of an open file", &mut |line| {
        line.call(&StatReq { fd: open });
    });
    let mut set = SetStatReq::new(file);
    set.mask = (SetStat::MODE | SetStat::ATIME | SetStat::MTIME | SetStat::SIZE).bits();
    (set.mode, set.size) = (0o600, 8192);
    never("SetStat", &mut |line| {
        assert_eq!(line.call(&set).failure_mask, 0);
    });
    never("Walk to what is not there", &mut |line| {
        let walked = line.call(&walk_to(absent_path.as_array()));
        assert_eq!(walked.status, WalkResp::COMPONENT_DOES_NOT_EXIST);
    });
    never("WalkStat", &mut |line| {
        let path = deep_path.as_array();
        assert_eq!(
            line.call(&WalkStatReq { dir_fd: root, path }).stats.len(),
            2
        );
    });
    let mut data = [0; 8192];
    never("PRead", &mut |line| {
        let read = line.channel.pread(open, 0, &mut data, &mut line.reply);
        assert_eq!(read.unwrap(), data.len());
    });
    never("PWrite", &mut |line| {
        let written = line.channel.pwrite(open, 0, &data, &mut line.reply);
        assert_eq!(written.unwrap(), data.len());
    });
    never("FSync of one file", &mut |line| {
        line.call(&FSyncReq {
            fds: Array::new(&[open]),
        });
    });
    never("FAllocate", &mut |line| {
        line.call(&FAllocateReq {
            fd: open,
            mode: 0,
            offset: 0,
            length: 4096,
        });
    });
    never("FStatFS", &mut |line| {
        line.call(&FStatFsReq { fd: root });
    });
    never("ReadLinkAt", &mut |line| {
        assert_eq!(
            line.call(&ReadLinkAtReq { fd: link }).target,
            b"where it leads"
        );
    });
    never("Getdents64", &mut |line| {
        let listed = line.call(&Getdents64Req {
            dir_fd: open_sub,
            count: -65_536,
        });
        assert_eq!(listed.dirents.len(), 300);
    });
    never("UnlinkAt of what is not there", &mut |line| {
        let unlink = UnlinkAtReq {
            dir_fd: root,
            flags: 0,
            name: b"absent",
        };
        let refused = line.channel.call(&unlink, &mut line.reply).unwrap_err();
        assert_eq!(refused.errno(), lisafs::Errno::ENOENT);
    });
    never("FGetXattr of what is not there", &mut |line| {
        let get = FGetXattrReq {
            fd: file,
            buf_size: 100,
            name: b"user.absent",
        };
        line.channel.call(&get, &mut line.reply).unwrap_err();
    });
    let (fd, name) = (file, mark.name);
    if marks {
        never("FSetXattr", &mut |line| {
            line.call(&mark);
        });
        never("FGetXattr", &mut |line| {
            let buf_size = 100;
            let got = line.call(&FGetXattrReq { fd, buf_size, name });
            assert_eq!(got.value, mark.value);
        });
        never("FListXattr", &mut |line| {
            let listed = line.call(&FListXattrReq { fd, size: 1000 });
            assert!(listed.names.iter().any(|listed| listed == name));
        });
        never("FRemoveXattr and FSetXattr", &mut |line| {
            line.call(&FRemoveXattrReq { fd, name });
            line.call(&mark);
        });
    }
    never("Listen", &mut |line| {
        let (fd, backlog) = (bound, 16);
        line.call(&ListenReq { fd, backlog });
    });
    never("RenameAt of what nobody knows and back", &mut |line| {
        rename(line, [b"unknown", b"moved"]);
        rename(line, [b"moved", b"unknown"]);
    });

    // Every object has memory of its own: a node and its name, a position and its file, and an open
    // file. A file that is known by a short name has that in itself.
    let mut per_request = |what: &str, objects: u64, request: &mut dyn FnMut(&mut Line)| {
        assert_eq!(
            allocations(|| request(line)),
            objects * REQUESTS,
            "{what}, {wait}"
        );
    };
    per_request("Walk to a known node", 2, &mut |line| {
        let fd = line.walk(&walk_to(file_path.as_array()));
        line.close(&[fd]);
    });
    // The name of the node.
    per_request("RenameAt of a known file and back", 2, &mut |line| {
        rename(line, [b"file", b"moved"]);
        rename(line, [b"moved", b"file"]);
    });
    per_request("OpenAt", 1, &mut |line| {
        let fd = line.open(file, libc::O_RDONLY);
        drop(line.reply.take_fd());
        line.close(&[fd]);
    });
    line.close(&[open, file]);
    let mut per_request = |what: &str, objects: u64, request: &mut dyn FnMut(&mut Line)| {
        assert_eq!(
            allocations(|| request(line)),
            objects * REQUESTS,
            "{what}, {wait}"
        );
    };
    per_request("Walk to a new node", 4, &mut |line| {
        let fd = line.walk(&walk_to(file_path.as_array()));
        line.close(&[fd]);
    });
    let unlink = |line: &mut Line, name: &[u8], flags: i32| {
        let flags = flags.cast_unsigned();
        line.call(&UnlinkAtReq {
            dir_fd: root,
            flags,
            name,
        });
    };
    per_request("MkdirAt and UnlinkAt", 4, &mut |line| {
        let (create, name) = (create(), b"made");
        let made = line.call(&MkdirAtReq { create, name }).child.control_fd;
        unlink(line, name, libc::AT_REMOVEDIR);
        line.close(&[made]);
    });
    per_request("OpenCreateAt and UnlinkAt", 5, &mut |line| {
        let (create, name) = (create(), b"made");
        let flags = libc::O_RDWR.cast_unsigned();
        let made = line.call(&OpenCreateAtReq {
            create,
            flags,
            name,
        });
        let ids = [made.child.control_fd, made.new_fd];
        drop(line.reply.take_fd());
        unlink(line, name, 0);
        line.close(&ids);
    });
}
