//! A directory to serve, and one next to it that nobody may reach.

use std::ffi::CString;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use lisafs::wire::Statx;
use lisafs::wire::schema::Value;
use tempfile::TempDir;

use crate::outside::{FILE, Outside, SECRET, SOCKET};

/// Both directories, where temporary ones are made.
#[derive(Debug)]
pub struct Scratch {
    base: TempDir,
    /// That of all files of both.
    device: u64,
    /// The directories above.
    above: Vec<u64>,
    outside: Outside,
}

impl Scratch {
    /// Makes them.
    ///
    /// # Errors
    /// What the host says.
    pub fn new() -> io::Result<Scratch> {
        let base = TempDir::new()?;
        fs::create_dir(base.path().join("outside"))?;
        let above = base.path().ancestors();
        Ok(Scratch {
            above: above
                .map(|dir| Ok(dir.metadata()?.ino()))
                .collect::<io::Result<_>>()?,
            device: base.path().metadata()?.dev(),
            outside: Outside::make(&base.path().join("outside"))?,
            base,
        })
    }

    /// The directory to serve.
    #[must_use]
    pub fn export(&self) -> PathBuf {
        self.base.path().join("export")
    }

    /// Fills the export anew, with doors to the outside that must not open.
    ///
    /// # Errors
    /// What the host says.
    pub fn fill(&self) -> io::Result<()> {
        let export = self.export();
        if export.exists() {
            remove(&export)?;
        }
        fs::create_dir_all(export.join("d/e"))?;
        fs::write(export.join("f"), b"inside")?;
        fs::hard_link(export.join("f"), export.join("d/f"))?;
        symlink("f", export.join("l"))?;
        symlink("../outside", export.join("up"))?;
        symlink("../../outside/empty", export.join("d/up"))?;
        symlink(self.outside.dir().join(FILE), export.join("secret"))?;
        symlink(self.outside.dir().join(SOCKET), export.join("socket"))?;
        symlink("/proc/self/root", export.join("root"))?;
        let fifo = CString::new(export.join("p").as_os_str().as_bytes())?;
        nix::unistd::mkfifo(fifo.as_c_str(), nix::sys::stat::Mode::S_IRWXU)?;
        Ok(())
    }

    /// Whether `said`, the reply of a server, gives anything of the outside away: its attributes,
    /// or what is in the file.
    #[must_use]
    pub fn gives_away(&self, said: &Value) -> bool {
        let number = |name: &str| match said.get(name) {
            Some(Value::Unsigned(number)) => Some(*number),
            _ => None,
        };
        let half = |name| number(name).and_then(|number| u32::try_from(number).ok());
        if let (Some(ino), Some(dev_major), Some(dev_minor)) =
            (number("ino"), half("dev_major"), half("dev_minor"))
        {
            if self.is_outside(libc::makedev(dev_major, dev_minor), ino) {
                return true;
            }
        }
        match said {
            Value::Bytes(bytes) => contains(bytes, SECRET),
            Value::List(list) => list.iter().any(|element| self.gives_away(element)),
            Value::Record(record) => record.iter().any(|(_, value)| self.gives_away(value)),
            Value::Unsigned(_) | Value::Signed(_) => false,
        }
    }

    /// Whether the file `ino` of `device` is none that can be in the export.
    #[must_use]
    pub fn is_outside(&self, device: u64, ino: u64) -> bool {
        let stat = Statx {
            ino,
            dev_major: libc::major(device),
            dev_minor: libc::minor(device),
            ..Statx::default()
        };
        device != self.device || self.above.contains(&ino) || self.outside.holds(&stat)
    }

    /// What has been done to the outside: a line for each trace.
    ///
    /// # Errors
    /// What the host says.
    pub fn traces(&self) -> io::Result<Vec<String>> {
        let mut traces = self.outside.traces();
        for entry in self.base.path().read_dir()? {
            let name = entry?.file_name();
            if name != "export" && name != "outside" {
                traces.push(format!("{} is next to the export", name.display()));
            }
        }
        Ok(traces)
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// Removes `dir` and what is in it, whatever modes clients have set.
fn remove(dir: &Path) -> io::Result<()> {
    fs::set_permissions(dir, Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove(&entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    fs::remove_dir(dir)
}
