//! The table of messages: each row declares one, and everything that depends on the set of
//! messages is made from it.
//!
//! A row holds the number, the name, the request and the reply, whether the message *reads* or
//! *mutates* the tree (a read-only connection answers EROFS to the latter before it decodes
//! anything), and how many descriptors a reply can bring.

use super::codec::{Decode, Encode};
use super::schema::{Field, Record};
use super::{Array, Mid, StatFs, Statx};
use super::{replies::*, requests::*};

/// Hands the rows of the table to a macro, for code that needs the types of all messages: a
/// dispatcher, a trace, a test. Where there is a choice, [`messages`] is simpler.
///
/// The macro gets the two lifetimes that the rows use (borrowed requests, borrowed replies), then
/// the rows: number, constant of [`Mid`], name, request, reply, `reads` or `mutates`, descriptors.
/// The types are named as in [`wire`](crate::wire), which the caller brings into scope.
///
/// ```
/// use lisafs::wire::*;
///
/// macro_rules! count {
///     (
///         <$q:lifetime $r:lifetime>
///         $($number:literal $const:ident $name:literal ($request:ty) ($reply:ty) $access:ident $fds:literal;)*
///     ) => {
///         [$($name),*].len()
///     };
/// }
///
/// assert_eq!(lisafs::for_each_message!(count), messages().count());
/// ```
#[macro_export]
macro_rules! for_each_message {
    ($callback:ident) => {
        $callback! {
            <'q 'r>
            1  MOUNT              "Mount"            (MountReq)             (MountResp<'r>)      reads   1;
            2  CHANNEL            "Channel"          (ChannelReq)           (ChannelResp)        reads   2;
            3  FSTAT              "FStat"            (StatReq)              (Statx)              reads   0;
            4  SET_STAT           "SetStat"          (SetStatReq)           (SetStatResp)        mutates 0;
            5  WALK               "Walk"             (WalkReq<'q>)          (WalkResp<'r>)       reads   0;
            6  WALK_STAT          "WalkStat"         (WalkStatReq<'q>)      (WalkStatResp<'r>)   reads   0;
            7  OPEN_AT            "OpenAt"           (OpenAtReq)            (OpenAtResp)         reads   1;
            8  OPEN_CREATE_AT     "OpenCreateAt"     (OpenCreateAtReq<'q>)  (OpenCreateAtResp)   mutates 1;
            9  CLOSE              "Close"            (CloseReq<'q>)         (())                 reads   0;
            10 FSYNC              "FSync"            (FSyncReq<'q>)         (())                 reads   0;
            11 PWRITE             "PWrite"           (PWriteReq)            (PWriteResp)         mutates 0;
            12 PREAD              "PRead"            (PReadReq)             (PReadResp<'r>)      reads   0;
            13 MKDIR_AT           "MkdirAt"          (MkdirAtReq<'q>)       (InodeResp)          mutates 0;
            14 MKNOD_AT           "MknodAt"          (MknodAtReq<'q>)       (InodeResp)          mutates 0;
            15 SYMLINK_AT         "SymlinkAt"        (SymlinkAtReq<'q>)     (InodeResp)          mutates 0;
            16 LINK_AT            "LinkAt"           (LinkAtReq<'q>)        (InodeResp)          mutates 0;
            17 FSTAT_FS           "FStatFS"          (FStatFsReq)           (StatFs)             reads   0;
            18 FALLOCATE          "FAllocate"        (FAllocateReq)         (())                 mutates 0;
            19 READ_LINK_AT       "ReadLinkAt"       (ReadLinkAtReq)        (ReadLinkAtResp<'r>) reads   0;
            20 FLUSH              "Flush"            (FlushReq)             (())                 reads   0;
            21 CONNECT            "Connect"          (ConnectReq)           (())                 reads   1;
            22 UNLINK_AT          "UnlinkAt"         (UnlinkAtReq<'q>)      (())                 mutates 0;
            23 RENAME_AT          "RenameAt"         (RenameAtReq<'q>)      (())                 mutates 0;
            24 GETDENTS64         "Getdents64"       (Getdents64Req)        (Getdents64Resp<'r>) reads   0;
            25 FGET_XATTR         "FGetXattr"        (FGetXattrReq<'q>)     (FGetXattrResp<'r>)  reads   0;
            26 FSET_XATTR         "FSetXattr"        (FSetXattrReq<'q>)     (())                 mutates 0;
            27 FLIST_XATTR        "FListXattr"       (FListXattrReq)        (FListXattrResp<'r>) reads   0;
            28 FREMOVE_XATTR      "FRemoveXattr"     (FRemoveXattrReq<'q>)  (())                 mutates 0;
            29 BIND_AT            "BindAt"           (BindAtReq<'q>)        (BindAtResp)         mutates 1;
            30 LISTEN             "Listen"           (ListenReq)            (())                 reads   0;
            31 ACCEPT             "Accept"           (AcceptReq)            (AcceptResp<'r>)     reads   1;
            32 CONNECT_WITH_CREDS "ConnectWithCreds" (ConnectWithCredsReq)  (())                 reads   1;
            33 RENAME_AT2         "RenameAt2"        (RenameAt2Req<'q>)     (())                 mutates 0;
        }
    };
}
pub use for_each_message;

/// A request knows its row of the table, so a typed call needs no other argument.
///
/// ```
/// use lisafs::wire::{FdId, Mid, Overflow, Request, StatReq};
///
/// /// The number of a request and its payload.
/// fn message<R: Request>(request: &R) -> Result<(Mid, Vec<u8>), Overflow> {
///     let mut payload = Vec::new();
///     request.encode(&mut payload)?;
///     Ok((R::MID, payload))
/// }
///
/// let (mid, payload) = message(&StatReq { fd: FdId(7) })?;
/// assert_eq!((mid, payload.len()), (Mid::FSTAT, 8));
/// # Ok::<(), Overflow>(())
/// ```
pub trait Request: Encode + Record {
    /// The number of the message.
    const MID: Mid;
    /// How many descriptors the reply can bring.
    const MAX_FDS: usize;
    /// The answer to it.
    type Reply<'r>: Decode<'r> + Encode + Record + core::fmt::Debug;
}

/// A row of the table.
///
/// ```
/// use lisafs::wire::{Mid, messages};
///
/// let mkdir = Mid::MKDIR_AT.message().expect("a message");
/// assert_eq!((mkdir.name, mkdir.mutates), ("MkdirAt", true));
/// // What a connection of a read-only server accepts.
/// assert!(messages().filter(|message| !message.mutates).any(|message| message.mid == Mid::WALK));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Message {
    /// The number.
    pub mid: Mid,
    /// The name, `Walk`.
    pub name: &'static str,
    /// Whether a read-only connection refuses it with EROFS.
    pub mutates: bool,
    /// How many descriptors the reply can bring.
    pub max_fds: usize,
    /// The fields of the request.
    pub request: &'static [Field],
    /// The fields of the reply; none is an empty message.
    pub reply: &'static [Field],
}

/// The length of an array that is indexed by message number. Number 0 is the error reply.
pub const MESSAGE_COUNT: usize = 34;

macro_rules! access {
    (reads) => {
        false
    };
    (mutates) => {
        true
    };
}

macro_rules! declare {
    (
        <$q:lifetime $r:lifetime>
        $($number:literal $const:ident $name:literal ($request:ty) ($reply:ty) $access:ident $fds:literal;)*
    ) => {
        impl Mid {
            /// The number of the error reply.
            pub const ERROR: Mid = Mid(0);
            $(
                #[doc = concat!("The number of `", $name, "`.")]
                pub const $const: Mid = Mid($number);
            )*
        }

        // A function declares the lifetimes that the types of the rows name.
        #[allow(clippy::extra_unused_lifetimes)]
        const fn rows<$q, $r>() -> [Option<Message>; MESSAGE_COUNT] {
            let mut rows = [None; MESSAGE_COUNT];
            $(
                rows[$number] = Some(Message {
                    mid: Mid::$const,
                    name: $name,
                    mutates: access!($access),
                    max_fds: $fds,
                    request: <$request as Record>::FIELDS,
                    reply: <$reply as Record>::FIELDS,
                });
            )*
            rows
        }

        $(
            impl<$q> Request for $request {
                const MID: Mid = Mid::$const;
                const MAX_FDS: usize = $fds;
                type Reply<$r> = $reply;
            }
        )*
    };
}

for_each_message!(declare);

static MESSAGES: [Option<Message>; MESSAGE_COUNT] = rows();

impl Mid {
    /// The message with this number.
    #[must_use]
    pub fn message(self) -> Option<&'static Message> {
        MESSAGES.get(usize::from(self.0))?.as_ref()
    }

    /// The number of the message with this name. Case, `_` and `-` do not matter: `WalkStat`,
    /// `walk-stat` and `WALK_STAT` are one.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Mid> {
        let given = name.bytes().filter(|byte| !matches!(byte, b'_' | b'-'));
        messages()
            .find(|message| {
                given
                    .clone()
                    .map(|byte| byte.to_ascii_lowercase())
                    .eq(message.name.bytes().map(|byte| byte.to_ascii_lowercase()))
            })
            .map(|message| message.mid)
    }
}

/// All messages in the order of their numbers.
pub fn messages() -> impl Iterator<Item = &'static Message> {
    MESSAGES.iter().flatten()
}

/// `SupportedMs` of a `MountResp`: numbers that this table has no row for are fine.
impl Array<'_, Mid> {
    /// Whether the list holds `mid`.
    #[must_use]
    pub fn contains(&self, mid: Mid) -> bool {
        self.iter().any(|supported| supported == mid)
    }
}
