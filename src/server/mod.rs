//! The server runtime: connections, ids, the tree of nodes and its locks, over a back end.
#![forbid(unsafe_code)]

mod backend;
mod fd;
mod fds;
mod guarantee;
mod tree;

pub use backend::{
    BoundSocketFdImpl, ControlFdImpl, Creation, DirentRequest, Donation, Mounted, NodeKind,
    OpenFdImpl, OpenFlags, RenameFlags, RenameOutcome, ServerImpl, ServerOpts,
};
pub use guarantee::{
    Exclusive, FdExclusive, FdLocks, FdShared, Global, Guarded, Shared, TreeLocks, Unguarded,
    Unheld,
};
pub use tree::Node;
