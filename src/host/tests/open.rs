use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use super::{EVERYTHING, Served, flags, make_fifo, name};
use crate::Errno;
use crate::host::HostFs;
use crate::host::handle::Handle;
use crate::host::kernel::Kernel;
use crate::host::open::OpenFd;
use crate::host::options::{CharacterDevices, HostFifo, HostOptions};
use crate::server::{Donation, OpenFdImpl};

fn open(served: &Served, path: &str, how: i32) -> Result<OpenFd, Errno> {
    served.host.open_file(&served.walk(path), flags(how))
}

fn open_device(path: &str, options: HostOptions, how: i32) -> Result<OpenFd, Errno> {
    let devices = HostFs::open(Path::new("/dev"), options).unwrap();
    let (device, _) = devices.root.walk(name(path)).unwrap();
    devices.open_file(&device, flags(how))
}

fn status_flags(file: &OpenFd) -> OFlag {
    let (Donation::Required(fd) | Donation::Optional(fd)) = file.donation() else {
        panic!("nothing to donate")
    };
    OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL).unwrap())
}

#[test]
fn each_type_is_opened_as_policy_permits() {
    let served = Served::with(HostOptions::default(), Kernel::probe());
    fs::write(served.path("file"), "").unwrap();
    symlink("file", served.path("link")).unwrap();
    make_fifo(&served.path("fifo"));
    let _socket = std::os::unix::net::UnixListener::bind(served.path("socket")).unwrap();
    let error = |served: &Served, path: &str| open(served, path, libc::O_RDONLY).err();
    assert_eq!(error(&served, "file"), None);
    assert_eq!(error(&served, "link"), Some(Errno::EINVAL));
    assert_eq!(error(&served, "fifo"), Some(Errno::EPERM));
    assert_eq!(error(&served, "socket"), Some(Errno::EPERM));
    let served = Served::at(served.directory, EVERYTHING, Kernel::probe());
    assert_eq!(error(&served, "link"), Some(Errno::EINVAL));
    assert_eq!(error(&served, "fifo"), None);
    assert_eq!(error(&served, "socket"), Some(Errno::ENXIO));
}

#[test]
fn devices_are_opened_as_policy_permits_and_never_block() {
    let device = open_device("null", EVERYTHING, libc::O_RDWR).unwrap();
    assert!(status_flags(&device).contains(OFlag::O_NONBLOCK | OFlag::O_RDWR));
    assert!(matches!(device.donation(), Donation::Required(_)));
    let closed = HostOptions {
        character_devices: CharacterDevices::None,
        ..EVERYTHING
    };
    let refused = open_device("null", closed, libc::O_RDONLY);
    assert_eq!(refused.err(), Some(Errno::EPERM));
}

/// The handle of a FIFO is no reader: a writer must learn that there is none.
#[test]
fn fifos_are_opened_without_waiting_for_the_other_end() {
    let options = HostOptions {
        host_fifo: HostFifo::Open,
        ..HostOptions::default()
    };
    let served = Served::with(options, Kernel::probe());
    make_fifo(&served.path("fifo"));
    assert_eq!(
        open(&served, "fifo", libc::O_WRONLY).err(),
        Some(Errno::ENXIO)
    );
    let reader = open(&served, "fifo", libc::O_RDONLY).unwrap();
    assert!(status_flags(&reader).contains(OFlag::O_NONBLOCK));
    assert!(matches!(reader.donation(), Donation::Required(_)));
    let writer = open(&served, "fifo", libc::O_WRONLY).unwrap();
    drop(reader);
    let Donation::Required(end) = writer.donation() else {
        panic!("a FIFO is donated")
    };
    let broken = nix::unistd::write(end, b"x");
    assert_eq!(broken, Err(nix::errno::Errno::EPIPE));
    drop(writer);
    assert!(open(&served, "fifo", libc::O_RDWR).is_ok());
}

/// The client gets the descriptor, and could take a lease on it. The next open that conflicts with
/// the lease would then wait for the client, for as long as the host is set to, with locks held.
#[test]
fn files_are_opened_without_waiting_for_a_lease() {
    let served = Served::new();
    fs::write(served.path("file"), "").unwrap();
    for how in [libc::O_RDONLY, libc::O_WRONLY, libc::O_RDWR] {
        let file = open(&served, "file", how).unwrap();
        assert!(status_flags(&file).contains(OFlag::O_NONBLOCK));
    }
}

#[test]
fn a_file_without_a_name_is_still_opened_truncated_and_allocated() {
    let served = Served::new();
    fs::write(served.path("file"), "content").unwrap();
    let handle = served.walk("file");
    handle.hold().unwrap();
    fs::remove_file(served.path("file")).unwrap();
    let file = served.host.open_file(&handle, flags(libc::O_RDWR)).unwrap();
    let mut content = [0; 16];
    assert_eq!(file.read_at((&mut content[..]).into(), 0), Ok(7));
    assert_eq!(file.allocate_at(0, 0, 100), Ok(()));
    assert_eq!(handle.stat().unwrap().size, 100);
    served
        .host
        .open_file(&handle, flags(libc::O_WRONLY | libc::O_TRUNC))
        .unwrap();
    assert_eq!(handle.stat().unwrap().size, 0);
}

#[test]
fn reads_and_writes_go_on_to_the_end_and_stop_there() {
    let served = Served::new();
    fs::write(served.path("file"), "0123456789").unwrap();
    let file = open(&served, "file", libc::O_RDWR).unwrap();
    let mut buffer = [b'?'; 8];
    assert_eq!(file.read_at((&mut buffer[..]).into(), 6), Ok(4));
    assert_eq!(&buffer, b"6789????");
    assert_eq!(file.read_at((&mut buffer[..]).into(), 10), Ok(0));
    assert_eq!(
        file.read_at((&mut buffer[..]).into(), i64::MAX.cast_unsigned() - 8),
        Ok(0)
    );
    assert_eq!(file.write_at((&mut b"ab".to_owned()[..]).into(), 9), Ok(2));
    assert_eq!(fs::read(served.path("file")).unwrap(), b"012345678ab");
    assert_eq!(file.write_at((&mut [][..]).into(), 0), Ok(0));
}

#[test]
fn offsets_that_the_host_cannot_count_are_invalid() {
    let served = Served::new();
    fs::write(served.path("file"), "content").unwrap();
    let file = open(&served, "file", libc::O_RDWR).unwrap();
    for offset in [1 << 63, u64::MAX] {
        let mut buffer = [0; 1];
        assert_eq!(
            file.read_at((&mut buffer[..]).into(), offset),
            Err(Errno::EINVAL)
        );
        assert_eq!(
            file.write_at((&mut buffer[..]).into(), offset),
            Err(Errno::EINVAL)
        );
        assert_eq!(
            file.write_at((&mut [][..]).into(), offset),
            Err(Errno::EINVAL)
        );
        assert_eq!(file.allocate_at(0, offset, 1), Err(Errno::EINVAL));
        assert_eq!(file.allocate_at(0, 0, offset), Err(Errno::EINVAL));
    }
    assert_eq!(file.allocate_at(0, 0, 0), Err(Errno::EINVAL));
    assert_eq!(fs::read(served.path("file")).unwrap(), b"content");
}

#[test]
fn allocation_modes_are_those_of_the_host_and_no_others() {
    let served = Served::new();
    fs::write(served.path("file"), "content").unwrap();
    let file = open(&served, "file", libc::O_RDWR).unwrap();
    let keep_size = 1;
    assert_eq!(file.allocate_at(keep_size, 0, 1000), Ok(()));
    assert_eq!(fs::metadata(served.path("file")).unwrap().len(), 7);
    for mode in [1 << 32, (1 << 32) + 1, 1 << 31, 1 << 63, 0x4, 0x1000] {
        assert_eq!(
            file.allocate_at(mode, 0, 1),
            Err(Errno::EOPNOTSUPP),
            "{mode:#x}"
        );
    }
}

#[test]
fn progress_before_an_error_is_told_and_the_error_comes_next() {
    let full = open_device("full", EVERYTHING, libc::O_WRONLY).unwrap();
    let mut data = [0; 4];
    let no_space = Errno::from(nix::errno::Errno::ENOSPC);
    assert_eq!(full.write_at((&mut data[..]).into(), 0), Err(no_space));

    let mut steps = [
        Ok(3),
        Err(nix::errno::Errno::EINTR),
        Err(nix::errno::Errno::ENOSPC),
    ]
    .iter();
    let mut buffer = [0; 10];
    let mut seen = Vec::new();
    let done = crate::host::open::transfer((&mut buffer[..]).into(), 5, |part, offset| {
        seen.push((part.len(), offset));
        *steps.next().unwrap()
    });
    assert_eq!(done, Ok(3));
    assert_eq!(seen, [(10, 5), (7, 8), (7, 8)]);
}

#[test]
fn only_regular_files_can_be_done_without_the_descriptor() {
    let served = Served::new();
    fs::write(served.path("file"), "").unwrap();
    fs::create_dir(served.path("directory")).unwrap();
    let file = open(&served, "file", libc::O_RDONLY).unwrap();
    assert!(matches!(file.donation(), Donation::Optional(_)));
    let directory = open(&served, "directory", libc::O_RDONLY).unwrap();
    assert!(matches!(directory.donation(), Donation::None));
}

#[test]
fn an_opening_that_fails_leaves_no_descriptor() {
    let served = Served::new();
    make_fifo(&served.path("fifo"));
    fs::create_dir(served.path("directory")).unwrap();
    let (fifo, directory) = (served.walk("fifo"), served.walk("directory"));
    // A handle keeps its own descriptor.
    fifo.hold().and_then(|()| directory.hold()).unwrap();
    let before = served.open_descriptors();
    let refuse = |handle: &Handle, how| served.host.open_file(handle, flags(how)).err();
    for _ in 0..10 {
        assert_eq!(refuse(&fifo, libc::O_WRONLY), Some(Errno::ENXIO));
        assert_eq!(refuse(&directory, libc::O_RDWR), Some(Errno::EISDIR));
        assert_eq!(served.root().walk(name("none")).err(), Some(Errno::ENOENT));
    }
    assert_eq!(served.open_descriptors(), before);
}
