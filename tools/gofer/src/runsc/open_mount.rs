//! Mounts that `runsc` has to open: their sources are out of reach from the user namespace of the
//! gofer, or the ids of their files are to be mapped.
//!
//! One JSON object is sent, and one comes back, without anything between or after them. The
//! descriptor comes with the first byte of the answer.
#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};
use serde::{Deserialize, Serialize};

use super::mount_options::MountOptions;
use super::spec::Mount;
use crate::sys;

/// How long an answer can be. `runsc` says at most why a system call has failed.
const MAX_ANSWER: usize = 64 << 10;

/// Whether this process cannot open the source itself.
pub(crate) fn is_needed(mount: &Mount, source: &Path) -> bool {
    mount.is_id_mapped() || access(source, AccessFlags::R_OK).is_err()
}

/// `runsc` has not opened a mount.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenMountError {
    #[error("runsc cannot be asked: {0}")]
    Socket(#[from] io::Error),
    #[error("runsc says: {0}")]
    Refused(String),
    #[error("the answer of runsc is not understood: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error("the answer of runsc has more than {MAX_ANSWER} bytes")]
    TooLong,
    #[error("runsc has hung up")]
    HungUp,
    #[error("runsc has opened the mount, but sent no descriptor")]
    NoDescriptor,
}

/// What opens mounts.
#[derive(Debug)]
pub(crate) struct MountOpener {
    socket: UnixStream,
}

#[derive(Serialize)]
struct Request<'a> {
    method: &'static str,
    arg: Arg<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Arg<'a> {
    mount: &'a Mount,
    flags: u64,
}

#[derive(Deserialize)]
struct Answer {
    success: bool,
    #[serde(default)]
    err: String,
}

impl MountOpener {
    /// Asks over the socket of `--rpc-fd`. When this is dropped, `runsc` waits for no more questions.
    ///
    /// # Errors
    /// As fcntl(2).
    pub(crate) fn new(socket: OwnedFd) -> io::Result<MountOpener> {
        let socket = UnixStream::from(socket);
        // It comes in the state that `runsc` uses its own end in.
        socket.set_nonblocking(false)?;
        Ok(MountOpener { socket })
    }

    /// Has `runsc` open the source of a mount; it must be absolute. If the mount is
    /// [id-mapped](Mount::is_id_mapped), what is returned is a mount that is attached nowhere, else
    /// an O_PATH descriptor of the source in the mount namespace of this process.
    ///
    /// Waits for the answer as long as it takes.
    ///
    /// # Errors
    /// If `runsc` cannot or does not open it.
    pub(crate) fn open(
        &mut self,
        mount: &Mount,
        options: MountOptions,
    ) -> Result<OwnedFd, OpenMountError> {
        let request = Request {
            method: "goferToHostRPC.OpenMount",
            arg: Arg {
                mount,
                flags: options.flags().bits(),
            },
        };
        self.socket.write_all(&serde_json::to_vec(&request)?)?;
        let (answer, descriptor) = self.answer()?;
        if !answer.success {
            return Err(OpenMountError::Refused(answer.err));
        }
        descriptor.ok_or(OpenMountError::NoDescriptor)
    }

    fn answer(&self) -> Result<(Answer, Option<OwnedFd>), OpenMountError> {
        let mut text = Vec::new();
        let mut descriptor = None;
        let mut buffer = [0; 4096];
        loop {
            let (len, received) = match sys::receive(&self.socket, &mut buffer) {
                Err(Errno::EINTR) => continue,
                other => other.map_err(io::Error::from)?,
            };
            descriptor = descriptor.or(received);
            text.extend(buffer.iter().take(len));
            match serde_json::from_slice(&text) {
                Ok(answer) => return Ok((answer, descriptor)),
                Err(why) if !why.is_eof() => return Err(why.into()),
                Err(_) if len == 0 => return Err(OpenMountError::HungUp),
                Err(_) if text.len() > MAX_ANSWER => return Err(OpenMountError::TooLong),
                Err(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{IoSlice, Read, Write};
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;
    use std::path::Path;
    use std::thread;

    use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
    use nix::sys::stat::fstat;

    use super::{MAX_ANSWER, MountOpener, OpenMountError, is_needed};
    use crate::runsc::mount_options::MountOptions;
    use crate::runsc::spec::{IdMapping, Mount};

    const REQUEST: &str = concat!(
        r#"{"method":"goferToHostRPC.OpenMount","arg":{"Mount":{"destination":"/mnt/ro","#,
        r#""type":"bind","source":"/bundle/priv/vol","options":["ro"]},"Flags":4097}}"#
    );

    fn mount() -> Mount {
        Mount {
            destination: "/mnt/ro".to_owned(),
            kind: "bind".to_owned(),
            source: "/bundle/priv/vol".to_owned(),
            options: vec!["ro".to_owned()],
            ..Mount::default()
        }
    }

    /// Asks a `runsc` that reads the question and then does this with its end.
    fn ask(runsc: impl FnOnce(UnixStream) + Send) -> Result<std::os::fd::OwnedFd, OpenMountError> {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        thread::scope(|scope| {
            scope.spawn(move || {
                let mut request = vec![0; REQUEST.len()];
                theirs.read_exact(&mut request).unwrap();
                assert_eq!(String::from_utf8(request).unwrap(), REQUEST);
                runsc(theirs);
            });
            let options = MountOptions::new(["ro"]).unwrap();
            MountOpener::new(ours.into())
                .unwrap()
                .open(&mount(), options)
        })
    }

    #[test]
    fn the_descriptor_comes_with_the_first_byte() {
        let file = tempfile::tempfile().unwrap();
        let answer = br#"{"success":true,"err":"","result":{}}"#;
        for first in [1, 7, answer.len()] {
            let sent = file.try_clone().unwrap();
            let got = ask(move |mut socket| {
                let (head, tail) = answer.split_at(first);
                let fds = [sent.as_raw_fd()];
                let rights = [ControlMessage::ScmRights(&fds)];
                let head = [IoSlice::new(head)];
                let none = None::<&()>;
                sendmsg(socket.as_raw_fd(), &head, &rights, MsgFlags::empty(), none).unwrap();
                socket.write_all(tail).unwrap();
            });
            let (got, file) = (fstat(got.unwrap()).unwrap(), fstat(&file).unwrap());
            assert_eq!((got.st_dev, got.st_ino), (file.st_dev, file.st_ino));
        }
    }

    #[test]
    fn what_is_no_descriptor_is_an_error() {
        let answered = |text: Vec<u8>| {
            ask(move |mut socket| {
                // What is too long is not read to the end.
                let _ = socket.write_all(&text);
            })
            .unwrap_err()
        };
        let refused = answered(br#"{"success":false,"err":"open: no","result":null}"#.to_vec());
        assert_eq!(refused.to_string(), "runsc says: open: no");
        let bare = answered(br#"{"success":true,"err":"","result":{}}"#.to_vec());
        assert!(matches!(bare, OpenMountError::NoDescriptor), "{bare}");
        for text in [b"".as_slice(), br#"{"success":true"#] {
            let gone = answered(text.to_vec());
            assert!(matches!(gone, OpenMountError::HungUp), "{gone}");
        }
        let other = answered(b"[1]".to_vec());
        assert!(matches!(other, OpenMountError::Malformed(_)), "{other}");
        let mut long = br#"{"success":false,"err":""#.to_vec();
        long.resize(MAX_ANSWER * 2, b'x');
        let long = answered(long);
        assert!(matches!(long, OpenMountError::TooLong), "{long}");
    }

    #[test]
    fn only_what_is_out_of_reach_or_mapped_needs_it() {
        let here = tempfile::tempdir().unwrap();
        File::create(here.path().join("file")).unwrap();
        assert!(!is_needed(&mount(), here.path()));
        assert!(!is_needed(&mount(), &here.path().join("file")));
        assert!(is_needed(&mount(), Path::new("/no such file")));
        let mapping = IdMapping {
            container_id: 0,
            host_id: 1,
            size: 1,
        };
        let mut mapped = mount();
        mapped.uid_mappings.push(mapping);
        assert!(!is_needed(&mapped, here.path()));
        mapped.gid_mappings.push(mapping);
        assert!(is_needed(&mapped, here.path()));
    }
}
