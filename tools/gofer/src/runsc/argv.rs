//! The command line that `runsc` gives its gofer.
//!
//! `runsc-gofer GLOBAL-FLAGS gofer GOFER-FLAGS [CONTAINER]`, in Go's flag syntax: one or two dashes,
//! `-name=value` or `-name value`, a switch alone meaning true. There are two dialects: that of 2022,
//! and that of today, which adds flags and the container's id. There are more than a hundred global
//! flags, and every release adds some: those that mean nothing to a gofer are passed over, which is
//! safe because `runsc` joins the values of all flags but `--bundle` to their names.
#![forbid(unsafe_code)]

use std::ffi::{OsStr, OsString};
use std::iter::Peekable;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::str::FromStr;
use std::vec;

use lisafs::host::{CharacterDevices, HostFifo, HostUds};

use super::log::Format;
use super::mount_confs::{self, MountConf};

/// Why a command line cannot be understood.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error(
        "after `--` comes the command line that runsc gives its gofer, beginning with the name of \
         the program: run this from a runsc, not by hand"
    )]
    NoProgram,
    #[error("the command is `{0}` and not `gofer`: this replaces the gofer of runsc, nothing else")]
    OtherCommand(String),
    #[error("--{0} has no value")]
    NoValue(String),
    #[error("--{name}={value}: {why}")]
    Value {
        name: String,
        value: String,
        why: String,
    },
    #[error("--{0} is missing: this runsc starts gofers in a way that is not known here")]
    Missing(&'static str),
    #[error("descriptor {0} is named twice")]
    Twice(RawFd),
}

/// Which `runsc` speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// The one of 2022, which has no `--gofer-mount-confs`.
    Of2022,
    /// Today's.
    Today,
}

/// What `runsc` wants.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Invocation {
    pub(crate) dialect: Dialect,
    /// What relative paths of the spec are relative to.
    pub(crate) bundle: PathBuf,
    /// The id of the container; runsc of 2022 does not say.
    pub(crate) container: Option<String>,
    pub(crate) fds: Fds,
    /// Whom to become when the user namespace is there.
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mounts: Mounts,
    pub(crate) host_uds: HostUds,
    pub(crate) host_fifo: HostFifo,
    pub(crate) character_devices: CharacterDevices,
    /// The sandbox reaches files by itself, from descriptors of the mount points.
    pub(crate) directfs: bool,
    /// How many descriptors this process may have once it serves.
    pub(crate) fd_limit: Option<u64>,
    /// For gVisor's own tests: serve the root where it is.
    pub(crate) unsafe_nonroot: bool,
    pub(crate) debug: bool,
    pub(crate) log_format: Format,
}

/// The descriptors that come with the process.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Fds {
    pub(crate) log: Option<RawFd>,
    pub(crate) debug_log: Option<RawFd>,
    pub(crate) spec: RawFd,
    pub(crate) mounts: RawFd,
    pub(crate) io: Vec<RawFd>,
    pub(crate) dev_io: Option<RawFd>,
    pub(crate) rpc: Option<RawFd>,
    pub(crate) pin_ring: Option<RawFd>,
    pub(crate) sync_userns: Option<RawFd>,
    pub(crate) sync_chroot: Option<RawFd>,
    pub(crate) sentry_exit: Option<RawFd>,
}

impl Fds {
    /// All of them, in no order.
    pub(crate) fn all(&self) -> impl Iterator<Item = RawFd> {
        let optional = [
            self.log,
            self.debug_log,
            self.dev_io,
            self.rpc,
            self.pin_ring,
            self.sync_userns,
            self.sync_chroot,
            self.sentry_exit,
        ];
        optional
            .into_iter()
            .flatten()
            .chain([self.spec, self.mounts])
            .chain(self.io.iter().copied())
    }
}

/// What is known of the mounts before the spec is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mounts {
    /// All are served, and these are overlaid in the sandbox.
    All(Overlay),
    /// The root, then each mount that the host is asked for.
    Listed(Vec<MountConf>),
}

/// Which mounts are overlaid in the sandbox, and so served to be read only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Overlay {
    /// None.
    #[default]
    None,
    /// The root.
    Root,
    /// The root and all mounts.
    All,
}

/// Where to report what is wrong with a command line that has not been understood yet.
///
/// If [`parse`] understands it, that finds the same number, or none here: two would have two owners. So
/// there is none behind a flag without a value, which may have this word for one.
pub(crate) fn log_fd(argv: &[OsString]) -> Option<RawFd> {
    let words = argv.iter().skip(1).map(|word| word.as_bytes());
    let flags = words.take_while(|word| word.starts_with(b"-") && *word != b"--");
    let (mut last, mut has_value) = (None, true);
    for word in flags {
        let name = word.strip_prefix(b"-")?;
        let name = name.strip_prefix(b"-").unwrap_or(name);
        if let Some(value) = name.strip_prefix(b"log-fd=") {
            last = has_value.then_some(value);
        }
        has_value = word.contains(&b'=');
    }
    let Donation(number) = str::from_utf8(last?).ok()?.parse().ok()?;
    Some(number)
}

/// Understands a command line, the name of the program included.
pub(crate) fn parse(argv: Vec<OsString>) -> Result<Invocation, Malformed> {
    let mut words = Words(argv.into_iter().peekable());
    // The program is `runsc-gofer`, but whoever patches may have other names.
    words
        .0
        .next_if(|program| !program.as_bytes().starts_with(b"-"))
        .ok_or(Malformed::NoProgram)?;
    let mut given = Given::default();
    while let Some((name, value)) = words.flag() {
        given.global(&name, Value::new(&name, value, &mut words))?;
    }
    words.end_flags();
    match words.0.next() {
        Some(command) if command == "gofer" => {}
        command => {
            let command = command.unwrap_or_default();
            return Err(Malformed::OtherCommand(
                command.to_string_lossy().into_owned(),
            ));
        }
    }
    while let Some((name, value)) = words.flag() {
        given.gofer(&name, Value::new(&name, value, &mut words))?;
    }
    words.end_flags();
    let container = words.0.next().map(|id| id.to_string_lossy().into_owned());
    given.complete(container)
}

/// The words that are left.
struct Words(Peekable<vec::IntoIter<OsString>>);

impl Words {
    /// Takes a flag and the value that is joined to it, if that is what comes next.
    fn flag(&mut self) -> Option<(String, Option<OsString>)> {
        let word = self.0.next_if(|word| {
            let bytes = word.as_bytes();
            bytes.starts_with(b"-") && bytes != b"-" && bytes != b"--"
        })?;
        let bytes = word.as_bytes();
        let bytes = bytes.strip_prefix(b"-").unwrap_or(bytes);
        let bytes = bytes.strip_prefix(b"-").unwrap_or(bytes);
        let mut parts = bytes.splitn(2, |byte| *byte == b'=');
        let name = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
        let value = parts
            .next()
            .map(|value| OsStr::from_bytes(value).to_owned());
        Some((name, value))
    }

    /// Takes what may stand between flags and the rest.
    fn end_flags(&mut self) {
        self.0.next_if(|word| word == "--");
    }
}

/// The value of a flag: joined to its name, or the next word once somebody knows that there is one.
struct Value<'w> {
    name: &'w str,
    joined: Option<OsString>,
    words: &'w mut Words,
}

impl<'w> Value<'w> {
    fn new(name: &'w str, joined: Option<OsString>, words: &'w mut Words) -> Value<'w> {
        Value {
            name,
            joined,
            words,
        }
    }

    fn raw(self) -> Result<OsString, Malformed> {
        self.joined
            .or_else(|| self.words.0.next())
            .ok_or_else(|| Malformed::NoValue(self.name.to_owned()))
    }

    fn text(self) -> Result<(String, String), Malformed> {
        let name = self.name.to_owned();
        let text = self.raw()?.into_string();
        text.map(|value| (name.clone(), value))
            .map_err(|raw| malformed(&name, &raw.to_string_lossy(), "this is not UTF-8"))
    }

    fn parse<T: FromStr<Err: ToString>>(self) -> Result<T, Malformed> {
        let (name, value) = self.text()?;
        value
            .parse()
            .map_err(|why: T::Err| malformed(&name, &value, &why.to_string()))
    }

    /// A descriptor; a negative number is none.
    fn fd(self) -> Result<Option<RawFd>, Malformed> {
        let (name, value) = self.text()?;
        match value.parse::<RawFd>() {
            Ok(..0) => Ok(None),
            _ => value
                .parse()
                .map(|Donation(number)| Some(number))
                .map_err(|why| malformed(&name, &value, &why)),
        }
    }

    /// What is separated by commas.
    fn list<T: FromStr<Err: ToString>>(self) -> Result<Vec<T>, Malformed> {
        let (name, value) = self.text()?;
        value
            .split(',')
            .map(|part| part.parse())
            .collect::<Result<_, _>>()
            .map_err(|why: T::Err| malformed(&name, &value, &why.to_string()))
    }

    /// Whether a switch is on. It never takes the next word.
    fn switch(self) -> Result<bool, Malformed> {
        let Some(value) = self.joined else {
            return Ok(true);
        };
        match value.as_bytes() {
            b"1" | b"t" | b"T" | b"true" | b"TRUE" | b"True" => Ok(true),
            b"0" | b"f" | b"F" | b"false" | b"FALSE" | b"False" => Ok(false),
            _ => Err(malformed(
                self.name,
                &value.to_string_lossy(),
                "this is neither true nor false",
            )),
        }
    }
}

/// The number of a descriptor that is no standard stream.
struct Donation(RawFd);

impl FromStr for Donation {
    type Err = String;

    fn from_str(text: &str) -> Result<Donation, String> {
        match text.parse() {
            Ok(number @ 3..) => Ok(Donation(number)),
            Ok(number) => Err(format!("{number} is no descriptor that can be donated")),
            Err(why) => Err(format!("{why}")),
        }
    }
}

fn malformed(name: &str, value: &str, why: &str) -> Malformed {
    Malformed::Value {
        name: name.to_owned(),
        value: value.to_owned(),
        why: why.to_owned(),
    }
}

/// What flags have said so far. Of a flag that comes twice, the last one holds.
#[derive(Default)]
struct Given {
    bundle: Option<PathBuf>,
    fds: Fds,
    spec: Option<RawFd>,
    mounts: Option<RawFd>,
    uid: u32,
    gid: u32,
    confs: Option<Vec<MountConf>>,
    overlay: bool,
    overlay2: Overlay,
    uds: HostUds,
    /// An older name of `uds=open`.
    uds_opens: bool,
    fifo: HostFifo,
    devices: Option<CharacterDevices>,
    directfs: Option<bool>,
    fd_limit: Option<u64>,
    unsafe_nonroot: bool,
    debug: bool,
    debug_command: String,
    log_format: Format,
}

impl Given {
    fn global(&mut self, name: &str, value: Value<'_>) -> Result<(), Malformed> {
        match name {
            "log-fd" => self.fds.log = value.fd()?,
            "debug-log-fd" => self.fds.debug_log = value.fd()?,
            "debug" => self.debug = value.switch()?,
            "debug-command" => self.debug_command = value.text()?.1,
            "debug-log-format" => self.log_format = value.parse()?,
            "host-uds" => self.uds = value.parse()?,
            "fsgofer-host-uds" => self.uds_opens = value.switch()?,
            "host-fifo" => self.fifo = value.parse()?,
            "character-device-policy" => self.devices = Some(devices(value)?),
            "directfs" => self.directfs = Some(value.switch()?),
            "overlay" => self.overlay = value.switch()?,
            "overlay2" => self.overlay2 = overlay(&value.text()?.1),
            "fdlimit" => self.fd_limit = u64::try_from(value.parse::<i64>()?).ok(),
            "TESTONLY-unsafe-nonroot" => self.unsafe_nonroot = value.switch()?,
            _ => {}
        }
        Ok(())
    }

    fn gofer(&mut self, name: &str, value: Value<'_>) -> Result<(), Malformed> {
        match name {
            "bundle" => self.bundle = Some(PathBuf::from(value.raw()?)),
            "spec-fd" => self.spec = value.fd()?,
            "mounts-fd" => self.mounts = value.fd()?,
            "io-fds" => {
                let fds = value.list::<Donation>()?;
                self.fds
                    .io
                    .extend(fds.iter().map(|Donation(number)| number));
            }
            "dev-io-fd" => self.fds.dev_io = value.fd()?,
            "rpc-fd" => self.fds.rpc = value.fd()?,
            "pin-ring-fd" => self.fds.pin_ring = value.fd()?,
            "sync-userns-fd" => self.fds.sync_userns = value.fd()?,
            "sync-chroot-fd" => self.fds.sync_chroot = value.fd()?,
            "sync-sentry-exit-fd" => self.fds.sentry_exit = value.fd()?,
            "uid" => self.uid = value.parse()?,
            "gid" => self.gid = value.parse()?,
            "gofer-mount-confs" => {
                let (name, value) = value.text()?;
                let confs = mount_confs::parse(&value)
                    .map_err(|why| malformed(&name, &value, &why.to_string()))?;
                self.confs = Some(confs);
            }
            _ => {}
        }
        Ok(())
    }

    fn complete(self, container: Option<String>) -> Result<Invocation, Malformed> {
        let fds = Fds {
            spec: self.spec.ok_or(Malformed::Missing("spec-fd"))?,
            mounts: self.mounts.ok_or(Malformed::Missing("mounts-fd"))?,
            ..self.fds
        };
        if fds.io.is_empty() {
            return Err(Malformed::Missing("io-fds"));
        }
        if let Some(twice) = twice(fds.all()) {
            return Err(Malformed::Twice(twice));
        }
        let (dialect, mounts) = match self.confs {
            Some(confs) => (Dialect::Today, Mounts::Listed(confs)),
            None if self.overlay => (Dialect::Of2022, Mounts::All(Overlay::All)),
            None => (Dialect::Of2022, Mounts::All(self.overlay2)),
        };
        let today = dialect == Dialect::Today;
        Ok(Invocation {
            dialect,
            bundle: self.bundle.ok_or(Malformed::Missing("bundle"))?,
            container,
            fds,
            uid: self.uid,
            gid: self.gid,
            mounts,
            host_uds: match (self.uds, self.uds_opens) {
                (HostUds::None, true) => HostUds::Open,
                (HostUds::Create, true) => HostUds::All,
                (uds, _) => uds,
            },
            host_fifo: self.fifo,
            // The policy is newer than the runsc of 2022, whose gofer opens them.
            character_devices: self.devices.unwrap_or(if today {
                CharacterDevices::None
            } else {
                CharacterDevices::Open
            }),
            directfs: self.directfs.unwrap_or(today),
            fd_limit: self.fd_limit,
            unsafe_nonroot: self.unsafe_nonroot,
            debug: self.debug && is_debugged(&self.debug_command),
            log_format: self.log_format,
        })
    }
}

fn devices(value: Value<'_>) -> Result<CharacterDevices, Malformed> {
    let (name, value) = value.text()?;
    match value.as_str() {
        "emulated-only" => Ok(CharacterDevices::None),
        "prefer-emulated" | "passthrough" => Ok(CharacterDevices::Open),
        _ => Err(malformed(
            &name,
            &value,
            "this is none of emulated-only, prefer-emulated and passthrough",
        )),
    }
}

/// Which mounts `none`, `root:MEDIUM` or `all:MEDIUM` is about. Today's runsc has other values, but
/// they do not count there.
fn overlay(value: &str) -> Overlay {
    match value.split(':').next() {
        Some("root") => Overlay::Root,
        Some("all") => Overlay::All,
        _ => Overlay::None,
    }
}

/// Whether a list of commands, or of exceptions if it begins with `!`, has the gofer debugged.
fn is_debugged(commands: &str) -> bool {
    let listed = |commands: &str| commands.split(',').any(|command| command == "gofer");
    match commands.strip_prefix('!') {
        Some(exceptions) => !listed(exceptions),
        None => commands.is_empty() || listed(commands),
    }
}

fn twice(numbers: impl Iterator<Item = RawFd>) -> Option<RawFd> {
    let mut numbers: Vec<_> = numbers.collect();
    numbers.sort_unstable();
    numbers
        .windows(2)
        .find(|pair| pair.first() == pair.last())
        .and_then(|pair| pair.first().copied())
}

#[cfg(test)]
mod tests;
