//! OpenAt, and the descriptors that come with open files.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};

use lisafs::Errno;
use lisafs::wire::FdId;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};

use crate::calls::{O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY};
use crate::case::Plain;
use crate::session::Session;
use crate::target::Need;
use crate::verdict::{Stop, Verdict, ensure, refused, same};

pub(crate) const CASES: &[Plain] = &[
    Plain::new("open.access_modes", access_modes),
    Plain::new("open.access_mode_3", access_mode_3),
    Plain::new("open.truncates", truncates),
    Plain::new("open.drops_other_flags", drops_other_flags),
    Plain::new("open.directory_for_writing", directory_for_writing),
    Plain::new("open.symlink", symlink),
    Plain::new("open.wants_a_control_fd", wants_a_control_fd),
    Plain::new("open.deleted_file", deleted_file),
    Plain::new("open.read_only", read_only).needs(&[Need::ReadOnly]),
    Plain::new("open.twice_gives_two_files", twice),
    Plain::new("open.outlives_the_control_fd", outlives_the_control_fd),
    Plain::new("donated.file_is_the_one_opened", donated_file),
    Plain::new(
        "donated.created_file_is_the_one_opened",
        donated_created_file,
    ),
    Plain::new("donated.directories_are_not", donated_directory),
    Plain::new("donated.nothing_leaks_here", nothing_leaks),
];

fn access_modes(s: &mut Session, d: FdId) -> Verdict {
    let f = s.file(d, b"f", b"data")?;
    let r = s.open(f, O_RDONLY)?.id;
    same!(s.read(r, 0, 10)?, b"data", "content");
    refused(s.write(r, 0, b"x"), Errno::EBADF)?;
    let w = s.open(f, O_WRONLY)?.id;
    refused(s.read(w, 0, 10), Errno::EBADF)?;
    s.write(w, 0, b"DA")?;
    let rw = s.open(f, O_RDWR)?.id;
    same!(s.read(rw, 0, 10)?, b"DAta", "content");
    s.write(rw, 4, b"!").map_err(Stop::from)
}

fn access_mode_3(s: &mut Session, d: FdId) -> Verdict {
    let f = s.file(d, b"f", b"data")?;
    let open = s.open(f, 3)?.id;
    refused(s.read(open, 0, 10), Errno::EBADF)?;
    refused(s.write(open, 0, b"x"), Errno::EBADF)
}

fn truncates(s: &mut Session, d: FdId) -> Verdict {
    let f = s.file(d, b"f", b"data")?;
    s.open(f, O_WRONLY | O_TRUNC)?;
    same!(s.stat(f)?.size, 0, "size");
    Ok(())
}

fn drops_other_flags(s: &mut Session, d: FdId) -> Verdict {
    let f = s.file(d, b"f", b"data")?;
    let all = !(O_RDONLY | O_WRONLY | O_RDWR | O_TRUNC);
    let open = s.open(f, O_RDWR | all)?.id;
    // Not O_APPEND, for one.
    s.write(open, 0, b"DA")?;
    same!(s.read(open, 0, 10)?, b"DAta", "content");
    let created = s.create(d, b"g", O_RDWR | all)?;
    s.write(created.open, 0, b"1234")?;
    s.write(created.open, 0, b"ab")?;
    same!(
        s.read(created.open, 0, 10)?,
        b"ab34",
        "content of the new file"
    );
    Ok(())
}

fn directory_for_writing(s: &mut Session, d: FdId) -> Verdict {
    for flags in [O_WRONLY, O_RDWR, O_TRUNC, O_RDWR | O_TRUNC, 3] {
        refused(s.open(d, flags), Errno::EISDIR)?;
    }
    let open = s.open(d, O_RDONLY)?.id;
    refused(s.read(open, 0, 10), Errno::EISDIR)
}

fn symlink(s: &mut Session, d: FdId) -> Verdict {
    s.file(d, b"f", b"data")?;
    let l = s.symlink(d, b"l", b"f")?.control_fd;
    for flags in [O_RDONLY, O_RDWR, O_TRUNC] {
        refused(s.open(l, flags), Errno::EINVAL)?;
    }
    same!(s.find(d, b"f")?.stat.size, 4, "size of the target");
    Ok(())
}

fn wants_a_control_fd(s: &mut Session, d: FdId) -> Verdict {
    let open = s.create(d, b"f", O_RDWR)?.open;
    refused(s.open(open, O_RDONLY), Errno::EINVAL)
}

fn deleted_file(s: &mut Session, d: FdId) -> Verdict {
    let f = s.file(d, b"f", b"data")?;
    s.unlink(d, b"f")?;
    s.file(d, b"f", b"another")?;
    let open = s.open(f, O_RDWR)?.id;
    same!(s.read(open, 0, 10)?, b"data", "content");
    Ok(())
}

fn read_only(s: &mut Session, d: FdId) -> Verdict {
    s.file(d, b"f", b"data")?;
    let mut ro = s.attach(true)?;
    let scratch = ro.scratch;
    let f = ro.find(scratch, b"f")?.control_fd;
    for flags in [O_WRONLY, O_RDWR, O_RDONLY | O_TRUNC, 3] {
        refused(ro.open(f, flags), Errno::EROFS)?;
        // Even before the id is looked up.
        refused(ro.open(FdId::INVALID, flags), Errno::EROFS)?;
        refused(ro.open(scratch, flags), Errno::EROFS)?;
    }
    let open = ro.open(f, O_RDONLY)?;
    same!(ro.read(open.id, 0, 10)?, b"data", "content");
    for fd in &open.donated {
        let flags = status_flags(fd)?;
        same!(
            flags & OFlag::O_ACCMODE,
            OFlag::O_RDONLY,
            "access of what was donated"
        );
    }
    Ok(())
}

fn twice(s: &mut Session, d: FdId) -> Verdict {
    let f = s.file(d, b"f", b"data")?;
    let (one, two) = (s.open(f, O_RDONLY)?.id, s.open(f, O_RDONLY)?.id);
    ensure!(one != two, "both are {one}");
    s.close(&[one])?;
    same!(s.read(two, 0, 10)?, b"data", "content");
    refused(s.read(one, 0, 10), Errno::EBADF)
}

fn outlives_the_control_fd(s: &mut Session, d: FdId) -> Verdict {
    let created = s.create(d, b"f", O_RDWR)?;
    s.close(&[created.inode.control_fd])?;
    s.write(created.open, 0, b"data")?;
    s.unlink(d, b"f")?;
    same!(s.read(created.open, 0, 10)?, b"data", "content");
    same!(s.stat(created.open)?.nlink, 0, "links");
    Ok(())
}

fn status_flags(fd: &OwnedFd) -> Result<OFlag, Stop> {
    Ok(OFlag::from_bits_retain(fcntl(
        fd.as_fd(),
        FcntlArg::F_GETFL,
    )?))
}

/// Checks that a donated descriptor is the file `ino`, open with `access`, and closed on exec.
fn check(fd: OwnedFd, ino: u64, access: OFlag) -> Result<File, Stop> {
    let flags = status_flags(&fd)?;
    same!(flags & OFlag::O_ACCMODE, access, "access");
    let stray = flags & (OFlag::O_APPEND | OFlag::O_DIRECT | OFlag::O_PATH | OFlag::O_SYNC);
    same!(stray, OFlag::empty(), "flags that nobody asked for");
    let own = FdFlag::from_bits_retain(fcntl(fd.as_fd(), FcntlArg::F_GETFD)?);
    same!(own, FdFlag::FD_CLOEXEC, "flags of the descriptor");
    let file = File::from(fd);
    same!(file.metadata()?.ino(), ino, "the file");
    Ok(file)
}

fn donated_file(s: &mut Session, d: FdId) -> Verdict {
    let f = s.file(d, b"f", b"data")?;
    let ino = s.stat(f)?.ino;
    for (flags, access) in [
        (O_RDONLY, OFlag::O_RDONLY),
        (O_WRONLY, OFlag::O_WRONLY),
        (O_RDWR, OFlag::O_RDWR),
    ] {
        let opened = s.open(f, flags)?;
        ensure!(
            opened.donated.len() <= 1,
            "{} descriptors",
            opened.donated.len()
        );
        for fd in opened.donated {
            let file = check(fd, ino, access)?;
            if flags != O_WRONLY {
                let mut content = [0; 4];
                file.read_exact_at(&mut content, 0)?;
                same!(content, *b"data", "content");
            }
            // It is of use when the server has forgotten the id.
            s.close(&[opened.id])?;
            if flags != O_RDONLY {
                (&file).write_all(b"data")?;
            }
        }
    }
    same!(s.stat(f)?.size, 4, "size");
    Ok(())
}

fn donated_created_file(s: &mut Session, d: FdId) -> Verdict {
    let created = s.create(d, b"f", O_RDWR)?;
    ensure!(
        created.donated.len() <= 1,
        "{} descriptors",
        created.donated.len()
    );
    for fd in created.donated {
        let file = check(fd, created.inode.stat.ino, OFlag::O_RDWR)?;
        file.write_all_at(b"from here", 0)?;
        same!(s.read(created.open, 0, 20)?, b"from here", "content");
    }
    Ok(())
}

fn donated_directory(s: &mut Session, d: FdId) -> Verdict {
    same!(s.open(d, O_RDONLY)?.donated.len(), 0, "descriptors");
    Ok(())
}

/// Descriptors of this process that lead into the directory of the case.
fn own_descriptors(s: &Session) -> Result<usize, Stop> {
    let own = String::from_utf8_lossy(s.name()).into_owned();
    let mut count = 0;
    for entry in std::fs::read_dir("/proc/self/fd")? {
        // What another thread has closed meanwhile is none of ours.
        let link = std::fs::read_link(entry?.path());
        count += usize::from(link.is_ok_and(|link| link.to_string_lossy().contains(&own)));
    }
    Ok(count)
}

fn nothing_leaks(s: &mut Session, d: FdId) -> Verdict {
    // In the server's own process what it holds counts as well.
    let before = own_descriptors(s)?;
    let f = s.file(d, b"f", b"data")?;
    for round in 0..50 {
        let opened = s.open(f, O_RDWR)?;
        refused(s.open(opened.id, O_RDWR), Errno::EINVAL)?;
        s.close(&[opened.id])?;
        let name = format!("g{round}").into_bytes();
        let created = s.create(d, &name, O_RDWR)?;
        s.close(&[created.open, created.inode.control_fd])?;
    }
    s.close(&[f])?;
    same!(own_descriptors(s)?, before, "descriptors");
    Ok(())
}
