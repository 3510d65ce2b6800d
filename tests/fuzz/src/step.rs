//! A request as a choice. Files and ids are named by choice, not by value, so that any part of a
//! sequence is a sequence.

use arbitrary::Arbitrary;

/// Chooses among what there is, by the remainder; 255 is what is not there.
pub type Choice = u8;

/// A request. What is no choice here is sent as it is.
#[derive(Arbitrary, Clone, Debug)]
#[allow(missing_docs)] // as the requests
pub enum Step {
    Stat {
        fd: Choice,
        open: bool,
    },
    SetStat {
        fd: Choice,
        mask: u16,
        mode: u16,
        owner: u8,
        size: u16,
        sec: i64,
    },
    Walk {
        dir: Choice,
        path: Vec<Choice>,
    },
    WalkStat {
        dir: Choice,
        path: Vec<Choice>,
    },
    Open {
        fd: Choice,
        flags: u16,
    },
    Create {
        dir: Choice,
        name: Choice,
        flags: u16,
        mode: u16,
    },
    Close {
        fds: Vec<Choice>,
    },
    CloseOpen {
        fd: Choice,
    },
    Sync {
        fds: Vec<Choice>,
    },
    Write {
        fd: Choice,
        offset: u32,
        len: u8,
        sparse: bool,
    },
    Read {
        fd: Choice,
        offset: u32,
        count: u16,
    },
    Mkdir {
        dir: Choice,
        name: Choice,
        mode: u16,
    },
    Mknod {
        dir: Choice,
        name: Choice,
        mode: u16,
        device: u8,
    },
    Symlink {
        dir: Choice,
        name: Choice,
        target: Choice,
    },
    Link {
        dir: Choice,
        target: Choice,
        name: Choice,
    },
    StatFs {
        fd: Choice,
    },
    Allocate {
        fd: Choice,
        mode: u8,
        offset: u16,
        length: u16,
    },
    ReadLink {
        fd: Choice,
    },
    Flush {
        fd: Choice,
    },
    Connect {
        fd: Choice,
        sock_type: u8,
        creds: Option<u8>,
    },
    Unlink {
        dir: Choice,
        name: Choice,
        directory: bool,
    },
    Rename {
        from: Choice,
        old: Choice,
        to: Choice,
        new: Choice,
    },
    RenameWith {
        from: Choice,
        old: Choice,
        to: Choice,
        new: Choice,
        flags: u8,
    },
    List {
        fd: Choice,
        count: i16,
    },
    GetXattr {
        fd: Choice,
        name: Choice,
        size: u16,
    },
    SetXattr {
        fd: Choice,
        name: Choice,
        len: u8,
        flags: u8,
    },
    ListXattr {
        fd: Choice,
        size: u16,
    },
    RemoveXattr {
        fd: Choice,
        name: Choice,
    },
    Bind {
        dir: Choice,
        name: Choice,
        sock_type: u8,
    },
    Mount,
    Listen {
        fd: Choice,
        backlog: i8,
    },
    Accept {
        fd: Choice,
    },
    CloseBound {
        fd: Choice,
    },
    /// No request: the client sets the flags of a descriptor that it was given, and so those of the
    /// server's own.
    SetFlags {
        given: Choice,
        flags: u16,
    },
}
