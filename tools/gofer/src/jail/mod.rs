//! What is left to the process when clients come: a mount tree that holds what it serves and nothing
//! else, few capabilities, and few system calls.
//!
//! | | |
//! |---|---|
//! | `entry` | all of it in order, for a gofer that was not started by runsc |
//! | `layers` | what has become of it, for whoever wants to know |
//! | `export` | what is served, and its mounts |
//! | `namespaces` | namespaces, as root or as anybody |
//! | `groups` | supplementary groups |
//! | `detached` | mounts for a process that may make none |
//! | `mount_tree` | a tree is put together aside, then becomes all there is |
//! | `mount_error` | why mounts could not be arranged, and what can be done |
//! | `resolve` | paths inside of it, made and found without ever leaving it |
//! | `mountinfo` | what is mounted where |
//! | `attributes` | read-only, nosuid and the like; propagation |
//! | `caps` | capabilities |
//! | `landlock` | no programs, TCP, signals or abstract sockets; with a tree that is the host's, files below the root only |
//! | `seccomp` | system calls, and their arguments |
//! | `apart`, `isolated` | what tests run in, there only where tests are built |
//!
//! Mounts are handled by descriptor, so no name can be exchanged between two looks at it. This takes
//! open_tree(2), move_mount(2), openat2(2) and mount_setattr(2): **Linux 5.12**.
#![forbid(unsafe_code)]

pub(crate) mod attributes;
pub(crate) mod caps;
mod detached;
pub(crate) mod entry;
pub(crate) mod export;
pub(crate) mod groups;
pub(crate) mod landlock;
pub(crate) mod layers;
pub(crate) mod mount_error;
pub(crate) mod mount_tree;
mod mountinfo;
mod namespaces;
pub(crate) mod resolve;
pub(crate) mod seccomp;

#[cfg(test)]
mod apart;
#[cfg(test)]
mod isolated;
