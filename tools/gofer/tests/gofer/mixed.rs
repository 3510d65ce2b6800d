//! A hundred requests of all sorts.

use std::os::unix::net::UnixStream;

use lisafs::Errno;
use lisafs::client::{Client, Communicator, Create, Error, Reply, SetAttributes, Socket};
use lisafs::wire::{OpenAtReq, StringArrayBuf, WalkStatReq};

/// Makes about a hundred requests, below a directory called `name`, of which nothing is left. Some
/// fail. Some ids are left to the end of the connection: those of the handles that the client gives
/// up by the hundred.
pub(crate) fn hundred_requests(client: &Client, name: &str) -> Result<(), Error> {
    let root = client.root();
    let dir = root.mkdir(name, Create::mode(0o755))?;
    for _ in 0..4 {
        let (file, open) = dir.create("file", Create::mode(0o644), libc::O_RDWR)?;
        open.write_at(b"some data", 0)?;
        open.read_at(&mut [0; 16], 0)?;
        open.allocate(0, 0, 4096)?;
        open.sync()?;
        file.set_stat(&SetAttributes::new().mode(0o600).size(5))?;
        file.stat()?;
        dir.link("other", &file)?;
        dir.symlink("link", "file", Create::mode(0o777))?
            .readlink()?;
        dir.rename("other", &root, format!("{name}.moved"), 0)?;
        root.unlink(format!("{name}.moved"), 0)?;
        dir.walk_stat(&["file"])?;
        dir.stat_fs()?;
        expect(Errno::ENOENT, dir.walk_one("nothing").map(drop));
        expect(
            Errno::EEXIST,
            dir.mkdir("file", Create::mode(0o700)).map(drop),
        );
        expect(Errno::EINVAL, dir.walk_one("..").map(drop));
        for entry in dir.open(libc::O_RDONLY)?.read_dir() {
            entry?;
        }
        dir.unlink("link", 0)?;
        dir.unlink("file", 0)?;
        // Deleted, and still open.
        open.stat()?;
    }
    root.unlink(name, libc::AT_REMOVEDIR)?;
    Ok(())
}

/// Opens files as nobody does who closes them, and leaves.
pub(crate) fn leave_everything_open(stream: UnixStream) -> Result<(), Error> {
    let mut socket = Socket::from(stream);
    let root = socket.mount()?.root;
    let mut reply = Reply::new();
    let path = StringArrayBuf::collect([]).unwrap();
    for _ in 0..49 {
        let open = OpenAtReq {
            fd: root.control_fd,
            flags: 0,
        };
        socket.call(&open, &mut reply)?;
        let walk = WalkStatReq {
            dir_fd: root.control_fd,
            path: path.as_array(),
        };
        socket.call(&walk, &mut reply)?;
    }
    Ok(())
}

fn expect(errno: Errno, result: Result<(), Error>) {
    assert_eq!(result.unwrap_err().errno(), errno);
}
