use super::{ELEMENTS, PREFIX};
use crate::wire::*;

fn bytes_of(message: &impl Encode) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.encode(&mut bytes).unwrap();
    bytes
}

fn request<R: Request>(message: &R) -> String {
    let bytes = bytes_of(message);
    describe::request(R::MID, &bytes, bytes.len()).to_string()
}

fn reply<R: Request>(message: &R::Reply<'_>) -> String {
    let bytes = bytes_of(message);
    describe::reply(R::MID, &bytes, bytes.len()).to_string()
}

fn file() -> Statx {
    Statx {
        mode: 0o100_644,
        uid: 1000,
        gid: 100,
        size: 9,
        ino: 42,
        ..Statx::default()
    }
}

#[test]
fn flags_and_modes_have_names() {
    let unlink = UnlinkAtReq {
        dir_fd: FdId(1),
        flags: 0x200,
        name: b"d",
    };
    assert_eq!(request(&unlink), "dir_fd=1, flags=AT_REMOVEDIR, name=\"d\"");
    let create = OpenCreateAtReq {
        create: CreateCommon {
            dir_fd: FdId(1),
            uid: Uid(0),
            gid: Gid::NONE,
            mode: 0o4755,
        },
        flags: (libc::O_RDWR | libc::O_SYNC | libc::O_EXCL).cast_unsigned() | 0x8000_0000,
        name: b"new",
    };
    assert_eq!(
        request(&create),
        "dir_fd=1, uid=0, gid=-1, mode=04755, flags=O_RDWR|O_EXCL|O_SYNC|0x80000000, name=\"new\""
    );
    let mknod = MknodAtReq {
        create: CreateCommon {
            mode: 0o010_600,
            ..create.create
        },
        minor: 3,
        major: 1,
        name: b"p",
    };
    assert!(request(&mknod).contains("mode=S_IFIFO|0600, minor=3, major=1"));
    let allocate = FAllocateReq {
        fd: FdId(2),
        mode: 3,
        offset: 0,
        length: 4096,
    };
    assert_eq!(
        request(&allocate),
        "fd=2, mode=FALLOC_FL_KEEP_SIZE|FALLOC_FL_PUNCH_HOLE, offset=0, length=4096"
    );
    let rename = RenameAt2Req {
        old_dir: FdId(1),
        new_dir: FdId(1),
        old_name: b"a",
        new_name: b"b",
        flags: 2,
    };
    assert!(request(&rename).ends_with("flags=RENAME_EXCHANGE"));
    let connect = ConnectReq {
        fd: FdId(1),
        sock_type: 1,
    };
    assert_eq!(request(&connect), "fd=1, sock_type=SOCK_STREAM");
}

#[test]
fn attributes_that_are_not_set_are_not_shown() {
    let mut set = SetStatReq::new(FdId(3));
    assert_eq!(request(&set), "fd=3, mask=0");
    set.mask = (SetStat::MODE | SetStat::ATIME | SetStat::MTIME).bits();
    set.mode = 0o640;
    set.atime.nsec = libc::UTIME_NOW;
    set.mtime = TimeSpec { sec: 5, nsec: 7 };
    assert_eq!(
        request(&set),
        "fd=3, mask=STATX_MODE|STATX_ATIME|STATX_MTIME, mode=0640, atime=UTIME_NOW, mtime=5.000000007"
    );
    let failed = SetStatResp {
        failure_mask: 8,
        failure_errno: 1,
    };
    assert_eq!(
        reply::<SetStatReq>(&failed),
        "failure_mask=STATX_UID, failure_errno=EPERM"
    );
}

#[test]
fn files_are_shown_in_brief() {
    let stat = "uid=1000, gid=100, mode=S_IFREG|0644, ino=42, size=9, ...";
    assert_eq!(reply::<StatReq>(&file()), stat);
    let inodes = [Inode {
        control_fd: FdId(7),
        stat: file(),
    }];
    let walk = WalkResp {
        status: WalkResp::COMPONENT_SYMLINK,
        inodes: Array::new(&inodes),
    };
    assert_eq!(
        reply::<WalkReq<'_>>(&walk),
        format!("status=WALK_COMPONENT_SYMLINK, inodes=[{{control_fd=7, stat={{{stat}}}}}]")
    );
}

#[test]
fn contents_are_counted_and_names_are_escaped() {
    let read = PReadResp {
        data: LongBytes(b"secret"),
    };
    assert_eq!(reply::<PReadReq>(&read), "data=6 bytes");
    let write = PWriteReq {
        offset: 4,
        fd: FdId(2),
        num_bytes: 6,
    };
    assert_eq!(request(&write), "offset=4, fd=2, num_bytes=6, data=...");
    let xattr = FSetXattrReq {
        fd: FdId(1),
        flags: 1,
        name: b"user.\x1b\"\n\xff",
        value: b"secret",
    };
    assert_eq!(
        request(&xattr),
        r#"fd=1, flags=XATTR_CREATE, name="user.\x1b\"\n\xff", value=6 bytes"#
    );
    let long = [b'x'; 300];
    let link = ReadLinkAtResp { target: &long };
    let shown = format!("target=\"{}\"...", "x".repeat(48));
    assert_eq!(reply::<ReadLinkAtReq>(&link), shown);
}

#[test]
fn long_arrays_are_cut_short() {
    let ids: Vec<FdId> = (1..=100).map(FdId).collect();
    let close = CloseReq {
        fds: Array::new(&ids),
    };
    assert_eq!(
        request(&close),
        "fds=[1, 2, 3, 4, 5, 6, 7, 8, ... 100 in all]"
    );
    let few = CloseReq {
        fds: Array::new(ids.get(..ELEMENTS).unwrap()),
    };
    assert_eq!(request(&few), "fds=[1, 2, 3, 4, 5, 6, 7, 8]");
}

#[test]
fn what_is_missing_is_told_from_what_was_left_out() {
    let names = StringArrayBuf::collect([&b"etc"[..]]).unwrap();
    let walk = WalkReq {
        dir_fd: FdId(1),
        path: names.as_array(),
    };
    let bytes = bytes_of(&walk);
    let cut = bytes.get(..bytes.len() - 1).unwrap();
    assert_eq!(
        describe::request(Mid::WALK, cut, cut.len()).to_string(),
        "dir_fd=1, path=[<cut off>"
    );
    assert_eq!(
        describe::request(Mid::WALK, cut, bytes.len()).to_string(),
        "dir_fd=1, path=[..."
    );
    assert_eq!(describe::request(Mid(99), b"abc", 3).to_string(), "3 bytes");
}

/// Whatever a peer sends, the text stays small.
#[test]
fn every_message_can_be_shown_whatever_is_in_it() {
    for message in messages() {
        for byte in [0, 1, 0x7f, 0xff] {
            let bytes = [byte; PREFIX];
            for text in [
                describe::request(message.mid, &bytes, bytes.len()).to_string(),
                describe::reply(message.mid, &bytes, bytes.len()).to_string(),
            ] {
                assert!(text.len() < 8 << 10, "{}: {}", message.name, text.len());
                assert!(!text.contains(char::is_control), "{text}");
            }
        }
    }
}
