//! What ids stand for: a back end's object and the node it is on.

use core::fmt;
use std::sync::Arc;

use super::backend::{ControlFdImpl, OpenFdImpl, OpenFlags, ServerImpl};
use super::guarantee::Global;
use super::quota::Share;
use super::tree::{Node, Observer};
use crate::Errno;
use crate::wire::{FileType, Name, Statx};

/// A position in the tree that the client has walked to.
pub(super) struct ControlFd<S: ServerImpl> {
    // Dropped in this order: the back end's object is gone before the node and the share can be.
    file: S::ControlFd,
    file_type: FileType,
    node: Arc<Node<S>>,
    _share: Share,
}

impl<S: ServerImpl> ControlFd<S> {
    /// Called with the rename lock held since the back end opened the file, or it would miss renames,
    /// and the operation lock of the directory, or it would miss that the file is unlinked.
    pub(super) fn new(
        mut file: S::ControlFd,
        file_type: FileType,
        node: Arc<Node<S>>,
        share: Share,
    ) -> Arc<Self> {
        file.placed(node.data());
        let fd = Arc::new(ControlFd {
            file,
            file_type,
            node,
            _share: share,
        });
        if S::NOTIFY_RENAMED {
            fd.node.observe(Observer::Control(Arc::downgrade(&fd)));
        }
        fd
    }

    /// The file `name` in this directory, which the back end has just walked to or made. As for
    /// [`new`](Self::new), with the operation lock of this directory.
    pub(super) fn child(
        &self,
        name: Name<'_>,
        file: S::ControlFd,
        stat: &Statx,
        share: Share,
    ) -> Arc<Self> {
        ControlFd::new(file, stat.file_type(), self.node.child(name), share)
    }

    pub(super) fn file(&self) -> &S::ControlFd {
        &self.file
    }

    pub(super) fn node(&self) -> &Arc<Node<S>> {
        &self.node
    }

    pub(super) fn file_type(&self) -> FileType {
        self.file_type
    }

    pub(super) fn is_directory(&self) -> bool {
        self.file_type == FileType::Directory
    }

    /// # Errors
    /// ENOTDIR if it is none.
    pub(super) fn directory(&self) -> Result<&Self, Errno> {
        if self.is_directory() {
            Ok(self)
        } else {
            Err(Errno::ENOTDIR)
        }
    }

    pub(super) fn notify_renamed(&self, at: Global<'_, S>) {
        self.file.renamed(at.on(self.node()));
    }
}

/// An open file. It keeps the ControlFd that it was opened from, and so the node, alive.
pub(super) struct OpenFd<S: ServerImpl> {
    file: S::OpenFd,
    flags: OpenFlags,
    control: Arc<ControlFd<S>>,
    _share: Share,
}

impl<S: ServerImpl> OpenFd<S> {
    /// Called with the rename lock held since the back end opened the file, or it would miss renames.
    pub(super) fn new(
        file: S::OpenFd,
        flags: OpenFlags,
        control: Arc<ControlFd<S>>,
        share: Share,
    ) -> Arc<Self> {
        let fd = Arc::new(OpenFd {
            file,
            flags,
            control,
            _share: share,
        });
        if S::NOTIFY_RENAMED {
            fd.control.node.observe(Observer::Open(Arc::downgrade(&fd)));
        }
        fd
    }

    pub(super) fn file(&self) -> &S::OpenFd {
        &self.file
    }

    pub(super) fn control(&self) -> &Arc<ControlFd<S>> {
        &self.control
    }

    pub(super) fn node(&self) -> &Arc<Node<S>> {
        &self.control.node
    }

    /// # Errors
    /// EBADF if it was not opened for reading.
    pub(super) fn readable(&self) -> Result<&Self, Errno> {
        if self.flags.readable() {
            Ok(self)
        } else {
            Err(Errno::EBADF)
        }
    }

    /// # Errors
    /// EBADF if it was not opened for writing.
    pub(super) fn writable(&self) -> Result<&Self, Errno> {
        if self.flags.writable() {
            Ok(self)
        } else {
            Err(Errno::EBADF)
        }
    }

    pub(super) fn notify_renamed(&self, at: Global<'_, S>) {
        self.file.renamed(at.on(self.node()));
    }
}

/// A bound socket. It keeps the ControlFd of its file alive.
pub(super) struct BoundSocketFd<S: ServerImpl> {
    socket: S::BoundSocketFd,
    control: Arc<ControlFd<S>>,
    _share: Share,
}

impl<S: ServerImpl> BoundSocketFd<S> {
    pub(super) fn new(
        socket: S::BoundSocketFd,
        control: Arc<ControlFd<S>>,
        share: Share,
    ) -> Arc<Self> {
        Arc::new(BoundSocketFd {
            socket,
            control,
            _share: share,
        })
    }

    pub(super) fn socket(&self) -> &S::BoundSocketFd {
        &self.socket
    }

    pub(super) fn control(&self) -> &Arc<ControlFd<S>> {
        &self.control
    }
}

macro_rules! opaque_debug {
    ($($name:ident)*) => {
        $(
            impl<S: ServerImpl> fmt::Debug for $name<S> {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.debug_struct(stringify!($name)).finish_non_exhaustive()
                }
            }
        )*
    };
}

opaque_debug! { ControlFd OpenFd BoundSocketFd }
