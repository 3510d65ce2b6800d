//! Contents, and what open files are good for.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::thread;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, FcntlArg, Flock, FlockArg, copy_file_range, fallocate, fcntl};
use nix::unistd::{Whence, ftruncate, lseek, truncate};

use crate::transcript::Transcript;

/// Bytes that are different at each place.
pub(crate) fn bytes(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..length).map(next).collect()
}

fn errno<T>(result: std::io::Result<T>) -> Option<Errno> {
    let why = result.err()?;
    why.raw_os_error().map(Errno::from_raw)
}

fn both() -> fs::OpenOptions {
    let mut options = File::options();
    options.read(true).write(true);
    options
}

pub(crate) fn contents_are_what_was_written(at: &Path, found: &mut Transcript) {
    let data = bytes((3 << 20) + 17);
    let path = at.join("file");
    fs::write(&path, &data).unwrap();
    found.note("whole", fs::read(&path).unwrap() == data);
    let file = both().open(&path).unwrap();
    let mut part = [0; 5000];
    for offset in [0, 4095, (1 << 20) - 1, 3 << 20, (3 << 20) + 17, 1 << 40] {
        let count = file.read_at(&mut part, offset).unwrap();
        let start = usize::try_from(offset).unwrap();
        let right = data
            .get(start..)
            .unwrap_or_default()
            .starts_with(&part[..count]);
        found.note("part", (count, right));
    }
    found.note("amid", errno(file.write_all_at(b"amid", 4094)));
    found.note("beyond", errno(file.write_all_at(b"beyond", 4 << 20)));
    found.note("size", file.metadata().unwrap().len());
    found.note("nothing", file.write_at(b"", 0).unwrap());
    drop(file);
    let read = fs::read(&path).unwrap();
    found.note("amid", &read[4090..4102]);
    found.note(
        "hole",
        read[(3 << 20) + 17..4 << 20].iter().all(|byte| *byte == 0),
    );
    found.note("beyond", &read[4 << 20..]);
    let only = File::open(&path).unwrap();
    found.note("not for writing", errno(only.write_at(b"x", 0)));
    let only = File::options().write(true).open(&path).unwrap();
    found.note("not for reading", errno(only.read_at(&mut part, 0)));
    found.note("synced", (errno(only.sync_all()), errno(only.sync_data())));
    found.note("a directory", errno(File::open(at).unwrap().sync_all()));
}

pub(crate) fn removed_files_stay_open(at: &Path, found: &mut Transcript) {
    let path = at.join("file");
    let mut file = both().create_new(true).open(&path).unwrap();
    file.write_all(b"contents").unwrap();
    fs::remove_file(&path).unwrap();
    found.note("gone", errno(File::open(&path)));
    let shown = |file: &File| {
        let found = file.metadata().unwrap();
        (found.nlink(), found.len(), found.mode())
    };
    found.note("is", shown(&file));
    found.note("written", errno(file.write_all(b" and more")));
    found.note("cut", ftruncate(&file, 12));
    found.note(
        "mode",
        errno(file.set_permissions(fs::Permissions::from_mode(0o400))),
    );
    found.note("is", shown(&file));
    fs::write(&path, "another").unwrap();
    let mut read = String::new();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.read_to_string(&mut read).unwrap();
    found.note("contents", (read, fs::read_to_string(&path).unwrap()));
    // One that is replaced, and one whose directory goes as well.
    let replaced = both().open(&path).unwrap();
    fs::write(at.join("new"), "new").unwrap();
    fs::rename(at.join("new"), &path).unwrap();
    let mut old = [0; 9];
    found.note(
        "replaced",
        (
            replaced.read_at(&mut old, 0).unwrap(),
            old,
            shown(&replaced),
        ),
    );
    fs::create_dir(at.join("dir")).unwrap();
    let inside = both().create_new(true).open(at.join("dir/file")).unwrap();
    fs::remove_dir_all(at.join("dir")).unwrap();
    found.note(
        "inside",
        (errno(inside.write_all_at(b"x", 9)), shown(&inside)),
    );
}

pub(crate) fn truncation_follows_the_open_mode(at: &Path, found: &mut Transcript) {
    let path = at.join("file");
    fs::write(&path, bytes(10_000)).unwrap();
    for size in [9_999, 4096, 100, 0, 70_000] {
        found.note("by name", truncate(&path, size));
        let read = fs::read(&path).unwrap();
        found.note(
            "is",
            (
                read.len(),
                read.iter().map(|byte| u64::from(*byte)).sum::<u64>(),
            ),
        );
    }
    found.note("negative", truncate(&path, -1));
    found.note("a directory", truncate(at, 0));
    let file = both().open(&path).unwrap();
    file.set_permissions(fs::Permissions::from_mode(0o0))
        .unwrap();
    found.note("open", ftruncate(&file, 5));
    found.note("only read", ftruncate(File::open(at).unwrap(), 5));
    found.note("is", path.metadata().unwrap().len());
    file.set_permissions(fs::Permissions::from_mode(0o600))
        .unwrap();
    File::create(&path).unwrap();
    found.note(
        "by opening",
        (
            path.metadata().unwrap().len(),
            file.metadata().unwrap().len(),
        ),
    );
    found.note("far", ftruncate(&file, 1 << 40));
    found.note("is", file.metadata().unwrap().len());
}

pub(crate) fn appended_data_goes_to_the_end(at: &Path, found: &mut Transcript) {
    let path = at.join("log");
    let open = || {
        File::options()
            .append(true)
            .create(true)
            .open(&path)
            .unwrap()
    };
    let (mut one, mut other) = (open(), open());
    for line in 0..50 {
        writeln!(one, "one {line}").unwrap();
        writeln!(other, "other {line}").unwrap();
    }
    found.note("lines", fs::read_to_string(&path).unwrap());
    truncate(&path, 3).unwrap();
    one.write_all(b"|").unwrap();
    found.note("behind a cut", fs::read_to_string(&path).unwrap());
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut log = open();
                (0..200).for_each(|_| log.write_all(b"0123456789\n").unwrap());
            });
        }
    });
    let log = fs::read_to_string(&path).unwrap();
    let whole = log[4..].lines().all(|line| line == "0123456789");
    found.note("by many", (log.len(), whole));
}

pub(crate) fn writers_do_not_disturb_each_other(at: &Path, found: &mut Transcript) {
    const PIECE: usize = 3001;
    let path = at.join("file");
    let data = bytes(PIECE * 400);
    thread::scope(|scope| {
        for writer in 0..4 {
            let (data, path) = (&data, &path);
            scope.spawn(move || {
                let file = both().create(true).truncate(false).open(path).unwrap();
                for place in (writer..400).step_by(4) {
                    let start = place * PIECE;
                    let piece = &data[start..start + PIECE];
                    file.write_all_at(piece, start as u64).unwrap();
                    let mut read = vec![0; PIECE];
                    file.read_exact_at(&mut read, start as u64).unwrap();
                    assert!(read == piece);
                }
            });
        }
    });
    found.note("all is there", fs::read(&path).unwrap() == data);
    // Names, too.
    thread::scope(|scope| {
        for maker in 0..4 {
            scope.spawn(move || {
                for file in 0..50 {
                    let name = at.join(format!("{maker}-{file}"));
                    fs::write(&name, "x").unwrap();
                    fs::rename(&name, at.join(format!("shared-{file}"))).unwrap();
                }
            });
        }
    });
    found.note("files", fs::read_dir(at).unwrap().count());
}

pub(crate) fn space_is_allocated_and_freed(at: &Path, found: &mut Transcript) {
    let path = at.join("file");
    let file = both().create_new(true).open(&path).unwrap();
    let shown = || {
        let found = file.metadata().unwrap();
        (found.len(), found.blocks())
    };
    let keep = FallocateFlags::FALLOC_FL_KEEP_SIZE;
    found.note(
        "more",
        (
            fallocate(&file, FallocateFlags::empty(), 0, 65_536),
            shown(),
        ),
    );
    found.note("behind", (fallocate(&file, keep, 65_536, 65_536), shown()));
    file.write_all_at(&bytes(65_536), 0).unwrap();
    let punch = keep | FallocateFlags::FALLOC_FL_PUNCH_HOLE;
    found.note("less", (fallocate(&file, punch, 4096, 8192), shown()));
    let read = fs::read(&path).unwrap();
    found.note("zeros", read[4096..12_288].iter().all(|byte| *byte == 0));
    found.note("no length", fallocate(&file, keep, 0, 0));
    found.note(
        "only read",
        fallocate(File::open(&path).unwrap(), keep, 0, 1),
    );
}

pub(crate) fn data_is_found_and_copied(at: &Path, found: &mut Transcript) {
    let (path, copy) = (at.join("file"), at.join("copy"));
    let data = bytes(200_000);
    fs::write(&path, &data).unwrap();
    let file = both().open(&path).unwrap();
    for offset in [0, 100_000, 199_999, 200_000] {
        let seek = |whence| lseek(&file, offset, whence);
        found.note("data", seek(Whence::SeekData));
        found.note("hole", seek(Whence::SeekHole));
        found.note("end", seek(Whence::SeekEnd));
    }
    let to = both().create_new(true).open(&copy).unwrap();
    let (mut from_offset, mut to_offset) = (1000, 5);
    let mut left = 150_000;
    while left > 0 {
        let offsets = (Some(&mut from_offset), Some(&mut to_offset));
        let count = copy_file_range(file.as_fd(), offsets.0, to.as_fd(), offsets.1, left);
        left -= count.unwrap();
    }
    found.note("copied", (from_offset, to_offset));
    let read = fs::read(&copy).unwrap();
    found.note("right", (read.len(), read[5..] == data[1000..151_000]));
    fs::copy(&path, &copy).unwrap();
    found.note("all", fs::read(&copy).unwrap() == data);
}

pub(crate) fn locks_exclude(at: &Path, found: &mut Transcript) {
    let path = at.join("file");
    fs::write(&path, "x").unwrap();
    let open = || both().open(&path).unwrap();
    let lock = |file, how| Flock::lock(file, how).map_err(|(_, why)| why);
    let first = lock(open(), FlockArg::LockExclusiveNonblock).unwrap();
    found.note("held", lock(open(), FlockArg::LockExclusiveNonblock).err());
    found.note("held", lock(open(), FlockArg::LockSharedNonblock).err());
    drop(first);
    let shared = lock(open(), FlockArg::LockSharedNonblock).unwrap();
    found.note("shared", lock(open(), FlockArg::LockSharedNonblock).err());
    drop(shared);
    let part = |start| libc::flock {
        l_type: i16::try_from(libc::F_WRLCK).unwrap(),
        l_whence: i16::try_from(libc::SEEK_SET).unwrap(),
        l_start: start,
        l_len: 10,
        l_pid: 0,
    };
    let (one, other) = (open(), open());
    let set = |file: &File, start| fcntl(file, FcntlArg::F_OFD_SETLK(&part(start)));
    found.note("one", set(&one, 0));
    found.note("the same", set(&other, 5));
    found.note("another", set(&other, 10));
}

pub(crate) fn mapped_memory_is_the_file(at: &Path, found: &mut Transcript) {
    // Mapping takes unsafe code, which another language hides.
    const SCRIPT: &str = "
import mmap, os, sys
fd = os.open('file', os.O_RDWR | os.O_CREAT, 0o600)
os.write(fd, b'0' * 20000)
shared = mmap.mmap(fd, 20000)
private = mmap.mmap(fd, 20000, flags=mmap.MAP_PRIVATE)
shared[5:8] = b'abc'
private[5:8] = b'xyz'
shared[19990:20000] = b'at the end'
shared.flush()
print(os.pread(fd, 10, 0), os.pread(fd, 20, 19985), private[4:9])
os.pwrite(fd, b'written', 4094)
print(shared[4090:4105])
shared.resize(30000)
shared[29999:] = b'!'
os.unlink('file')
shared.flush()
print(os.fstat(fd).st_size, os.pread(fd, 5, 29997))
shared.close()
read = mmap.mmap(os.open('/proc/self/exe', os.O_RDONLY), 0, prot=mmap.PROT_READ)
out = os.open('program', os.O_RDWR | os.O_CREAT, 0o700)
os.write(out, read[:])
os.close(out)
print(os.spawnl(os.P_WAIT, './program', 'program', '-S', '-c', 'print(6 * 7)'))
";
    let mut python = Command::new("python3");
    let output = python.args(["-c", SCRIPT]).current_dir(at).output();
    let output = output.unwrap_or_else(|why| panic!("python3: {why}"));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    found.note("said", said);
}
