//! FIFOs and devices, which only the host can make.

use std::fs::File;
use std::io::{Read, Write};

use lisafs::Errno;
use lisafs::wire::{FdId, FileType};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::mkfifo;

use crate::calls::{O_RDONLY, O_RDWR, O_WRONLY};
use crate::case::Plain;
use crate::session::Session;
use crate::target::Need;
use crate::verdict::{Stop, Verdict, refused, same};

const FIFO: &[Need] = &[Need::HostAccess, Need::Fifo];
const ROOT: &[Need] = &[Need::HostAccess, Need::Privileged];

pub(crate) const CASES: &[Plain] = &[
    Plain::new("fifo.is_walked_and_looked_at", looked_at).needs(&[Need::HostAccess]),
    Plain::new("fifo.writer_without_a_reader", writer_without_reader).needs(FIFO),
    Plain::new("fifo.reader_without_a_writer", reader_without_writer).needs(FIFO),
    Plain::new("fifo.carries_data", carries_data).needs(FIFO),
    Plain::new("device.is_walked_and_looked_at", device_looked_at).needs(ROOT),
    Plain::new("device.block_devices_are_not_served", block_device).needs(ROOT),
];

fn fifo(s: &mut Session, d: FdId) -> Result<FdId, Stop> {
    mkfifo(&s.host_path("fifo")?, Mode::from_bits_truncate(0o644))?;
    Ok(s.find(d, b"fifo")?.control_fd)
}

fn looked_at(s: &mut Session, d: FdId) -> Verdict {
    let fifo = fifo(s, d)?;
    same!(s.stat(fifo)?.file_type(), FileType::Fifo, "type");
    same!(s.names(d)?, [b"fifo"], "names");
    let stats = s.walk_stat(d, &[b"fifo"])?;
    let types: Vec<_> = stats.iter().map(|stat| stat.file_type()).collect();
    same!(types, [FileType::Fifo], "types");
    s.unlink(d, b"fifo")?;
    Ok(())
}

fn writer_without_reader(s: &mut Session, d: FdId) -> Verdict {
    let fifo = fifo(s, d)?;
    refused(s.open(fifo, O_WRONLY), Errno::ENXIO)
}

fn reader_without_writer(s: &mut Session, d: FdId) -> Verdict {
    let fifo = fifo(s, d)?;
    let opened = s.open(fifo, O_RDONLY)?;
    same!(opened.donated.len(), 1, "descriptors");
    // Now there is a reader.
    s.open(fifo, O_WRONLY)?;
    Ok(())
}

fn carries_data(s: &mut Session, d: FdId) -> Verdict {
    let fifo = fifo(s, d)?;
    let opened = s.open(fifo, O_RDWR)?;
    let mut files = opened.donated.into_iter().map(File::from);
    let mut file = files.next().ok_or(Errno::EBADF)?;
    file.write_all(b"ping")?;
    let mut got = [0; 4];
    file.read_exact(&mut got)?;
    same!(&got, b"ping", "what came");
    Ok(())
}

fn device(s: &Session, kind: SFlag, device: u64) -> Verdict {
    let mode = Mode::from_bits_truncate(0o600);
    match mknod(&s.host_path("device")?, kind, mode, device) {
        Err(nix::Error::EPERM) => Err(Stop::skipped("this process may not make devices")),
        made => Ok(made?),
    }
}

fn device_looked_at(s: &mut Session, d: FdId) -> Verdict {
    device(s, SFlag::S_IFCHR, makedev(1, 3))?;
    let stat = s.find(d, b"device")?.stat;
    same!(stat.file_type(), FileType::CharacterDevice, "type");
    same!((stat.rdev_major, stat.rdev_minor), (1, 3), "device");
    Ok(())
}

fn block_device(s: &mut Session, d: FdId) -> Verdict {
    device(s, SFlag::S_IFBLK, makedev(7, 255))?;
    refused(s.walk(d, &[b"device"]), Errno::EPERM)?;
    refused(s.walk_stat(d, &[b"device"]), Errno::EPERM)?;
    same!(s.names(d)?, [b"device"], "names");
    Ok(())
}
