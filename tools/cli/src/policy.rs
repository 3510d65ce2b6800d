//! What a gofer refuses unless it was told otherwise, and by which option.

use lisafs::Errno;
use lisafs::client::Error;
use lisafs::wire::FileType;

use crate::failure::Why;

/// Why a file of this type was not opened.
pub(crate) fn not_opened(why: Error, file_type: FileType) -> Why {
    match (why.errno(), file_type) {
        (Errno::EPERM, FileType::Fifo) => {
            Why::Said("Operation not permitted: a gofer opens FIFOs only with --host-fifo open")
        }
        (Errno::EPERM, FileType::CharacterDevice) => Why::Said(
            "Operation not permitted: a gofer opens devices only with --character-devices open",
        ),
        (Errno::EPERM | Errno::ENXIO, FileType::Socket) => {
            Why::Said("it is a socket: it is connected to, not opened")
        }
        _ => why.into(),
    }
}

/// Why a file of this type was not made.
pub(crate) fn not_made(why: Error, file_type: FileType) -> Why {
    match (why.errno(), file_type) {
        (Errno::EPERM, FileType::Socket) => Why::Said(
            "Operation not permitted: a gofer makes sockets only with --host-uds create or all",
        ),
        (Errno::EPERM, FileType::Fifo | FileType::CharacterDevice | FileType::BlockDevice) => {
            Why::Said("Operation not permitted: a gofer makes no FIFOs, and no device but c 0 0")
        }
        _ => why.into(),
    }
}
