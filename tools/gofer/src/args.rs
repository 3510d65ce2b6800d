//! The command line.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::{FalseyValueParser, ValueParser};
use clap::{ArgGroup, Parser, Subcommand, ValueEnum};
use flipcall::WaitPolicy;
use lisafs::host::{CharacterDevices, HostFifo, HostOptions, HostUds};
use lisafs::server::{ConnectionOpts, Totals};
use tracing_subscriber::filter::LevelFilter;

#[derive(Debug, Parser)]
#[command(name = "lisafs-gofer", version, about, max_term_width = 100)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Serve(ServeOptions),
    Check(CheckOptions),
    Install(InstallOptions),
    Uninstall(UninstallOptions),
    Runsc(RunscOptions),
}

/// Be the gofer of a stock runsc
///
/// runsc starts its gofer by executing itself again, with a command line and with descriptors that
/// are for nobody else. This takes the place of that process: ARGV is the whole command line that it
/// would have got, the name of the program included. Both the runsc that Debian has, of 2022, and
/// today's are understood. It serves the container's root and mounts until the sandbox has hung up.
///
/// Everything else is in ARGV as well, such as which files are served read-only, what may be done
/// with sockets, and where to log.
///
/// Exits with 0 when the sandbox was served to the end, and with 128 when it cannot be served; why is
/// said on stderr, in the debug log of runsc, and where containerd and Docker show it.
#[derive(Debug, clap::Args)]
pub(crate) struct RunscOptions {
    /// Write a line for each request into the debug log of runsc, as strace does for system calls
    ///
    /// For a gofer that runsc starts, LISAFS_TRACE=1 in the environment of runsc does the same.
    #[arg(long, env = "LISAFS_TRACE", value_parser = FalseyValueParser::new())]
    pub(crate) trace: bool,

    /// The command line of the gofer that runsc starts: `runsc-gofer ... gofer ...`
    #[arg(last = true, required = true, value_name = "ARGV")]
    pub(crate) argv: Vec<OsString>,
}

/// Make a runsc that uses this gofer
///
/// Puts a copy of a runsc into PREFIX/bin, as `runsc-lisafs`, that is like it in everything but in
/// the gofers that it starts. What it needs for that is put into PREFIX/libexec/lisafs. The runsc
/// itself stays as it is. Prints how to use the copy: directly, or from Docker, containerd or
/// Kubernetes.
///
/// To be repeated when runsc or this program was upgraded: both are copied.
#[derive(Debug, clap::Args)]
pub(crate) struct InstallOptions {
    /// The runsc to copy
    #[arg(long, value_name = "PATH")]
    pub(crate) runsc: PathBuf,

    /// The directory to install below, such as /usr/local; it is made if it is missing
    #[arg(long, value_name = "DIR")]
    pub(crate) prefix: PathBuf,

    /// A path of at most 14 bytes for a symbolic link that the copy needs
    ///
    /// The copy reaches this gofer by a path that has to fit in where runsc has one of 14 bytes. By
    /// default it is a new name in /etc/lisafs, which only root can make. Its directory has to be
    /// there.
    #[arg(long, value_name = "LINK")]
    pub(crate) link: Option<PathBuf>,

    /// A runsc that was built to use this gofer, to be taken instead of a changed copy
    ///
    /// It has to be of the same version, and built with PREFIX/libexec/lisafs/multiplexer as its
    /// `specutils.ExePath`; it needs no link.
    #[arg(long, value_name = "PATH", conflicts_with = "link")]
    pub(crate) rebuilt: Option<PathBuf>,
}

/// Remove what `install` has made
///
/// Containers that run keep running, but no process can be started in them any more with the copy
/// of runsc, and nothing can clean up after them: end them first.
#[derive(Debug, clap::Args)]
pub(crate) struct UninstallOptions {
    /// The directory that was installed below
    #[arg(long, value_name = "DIR")]
    pub(crate) prefix: PathBuf,
}

/// Say what the sandbox of `serve` can be made of
///
/// Tries all of it, in another process, for DIR, which is read-only there. Prints one line for each
/// layer: what is in force, or why it is missing and what to do.
///
/// Exits with 0 if `serve --sandbox strict` would start with the same options, with 1 if it would
/// not, and with 2 if that could not be found out.
#[derive(Debug, clap::Args)]
pub(crate) struct CheckOptions {
    /// The directory that would be served
    #[arg(default_value = ".")]
    pub(crate) dir: PathBuf,

    #[command(flatten)]
    pub(crate) special: SpecialFiles,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

// What clients may do beyond regular files, directories and symlinks. No doc comment: clap would take it
// for that of the verb.
#[derive(Debug, clap::Args)]
pub(crate) struct SpecialFiles {
    /// What clients may do with Unix sockets: none, open, create or all
    ///
    /// `open` lets them connect to those that exist, `create` bind new ones, `all` both.
    #[arg(long, value_name = "WHAT", default_value_t, value_parser = ValueParser::new(HostUds::from_str))]
    pub(crate) host_uds: HostUds,

    /// What clients may do with FIFOs: none or open
    #[arg(long, value_name = "WHAT", default_value_t, value_parser = ValueParser::new(HostFifo::from_str))]
    pub(crate) host_fifo: HostFifo,

    /// What clients may do with character devices: none or open
    #[arg(long, value_name = "WHAT", default_value_t, value_parser = ValueParser::new(CharacterDevices::from_str))]
    pub(crate) character_devices: CharacterDevices,
}

impl SpecialFiles {
    /// The policy for the files of the host.
    pub(crate) fn host(&self) -> HostOptions {
        HostOptions {
            host_uds: self.host_uds,
            host_fifo: self.host_fifo,
            character_devices: self.character_devices,
            ..HostOptions::default()
        }
    }
}

/// Serve a directory
///
/// Serves DIR, and all below it, to the clients that connect to a socket; or to the one client at
/// the other end of a socket that was inherited. Without --listen and --fd the socket is one that
/// listens already and is passed on by systemd, or as systemd does it (LISTEN_FDS). Clients can do
/// what this process can do, so run it as a user that may do no more than they should.
///
/// SIGTERM and SIGINT end it: requests that are running are answered, the socket is removed. A
/// second signal ends it at once. SIGUSR2 has it accept no more clients, and end when those that it
/// has are done: a successor that was given the same socket takes the others.
///
/// Exits with 0 when all clients were served to the end, with 1 when a request was still running
/// after the ten seconds that it gets, and with 2 when it cannot serve.
#[derive(Debug, clap::Args)]
#[command(group(ArgGroup::new("where").args(["listen", "fd"])))]
pub(crate) struct ServeOptions {
    /// The directory to serve
    pub(crate) dir: PathBuf,

    /// Make a socket at this path, for this user only, and serve whoever connects
    ///
    /// A socket that is there already is replaced if nobody listens on it.
    #[arg(long, value_name = "SOCKET")]
    pub(crate) listen: Option<PathBuf>,

    /// Serve the client at the other end of this inherited descriptor, and exit when it is done
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(RawFd).range(0..))]
    pub(crate) fd: Option<RawFd>,

    /// Answer EROFS to whatever would change something
    ///
    /// A descriptor that is donated with an open file is as read-only as the file was opened. A
    /// client that sees it in its own /proc can open that file again for writing, though, as far
    /// as the permissions of the file let it: against clients that are not locked in, serve a
    /// directory that is mounted read-only.
    #[arg(long)]
    pub(crate) readonly: bool,

    #[command(flatten)]
    pub(crate) special: SpecialFiles,

    /// How many shared-memory channels a client can have
    ///
    /// Each costs a thread and, once it has been used, twice --max-message-size of memory: a window that
    /// is shared with the client, and a copy of its request that is not.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = positive)]
    pub(crate) max_channels: usize,

    /// How many ids, and so open files and handles, a client can have
    #[arg(long, value_name = "N", default_value_t = 1 << 20, value_parser = positive)]
    pub(crate) max_ids: usize,

    /// How many descriptors this process can have open for a client
    ///
    /// Files that the client has only looked at cost none, where the file system tells them apart for
    /// good. Half of the number can be spent on files that are not open but have been used. By
    /// default a quarter of the descriptors that this process may have (`ulimit -Hn`), and three
    /// quarters with --fd, where there is one client only; the rest is for sockets and channels.
    /// Never more than 1048576 by default.
    #[arg(long, value_name = "N", value_parser = positive)]
    pub(crate) max_fds: Option<usize>,

    /// How many descriptors this process can have open for all clients
    ///
    /// Each client can have 32 for files whatever the others hold, if --max-fds lets it. With what the
    /// client's socket, channels and threads need, that makes 61 which are set aside for one with four
    /// channels; when there are not so many left, the next client is turned away. A quarter is for that
    /// alone. By default three quarters of the descriptors that this process may have (`ulimit -Hn`), or
    /// what leaves one client all of --max-fds where that is more, as with --fd.
    #[arg(long, value_name = "N", value_parser = positive)]
    pub(crate) max_total_fds: Option<usize>,

    /// How many ids all clients can have
    ///
    /// Each costs this process some 600 bytes, and each directory above that nobody holds some 700. Each
    /// client can have 1,024 whatever the others hold, if --max-ids lets it. They are set aside; when
    /// there are not so many left, the next client is turned away. A quarter is for that alone. By
    /// default four times --max-ids, or four times what is set aside for --max-connections clients where
    /// that is more, so that none is turned away for it.
    #[arg(long, value_name = "N", value_parser = positive)]
    pub(crate) max_total_ids: Option<usize>,

    /// How many descriptors can be on their way to a client, over its socket and over each channel
    ///
    /// They are what goes to it with open files and new channels; those that it has not taken count
    /// against a limit that all processes of this user share. A client that takes the descriptors of
    /// each answer has two on their way at the most. Above the limit, files are opened without, and what
    /// makes no sense without its descriptor (FIFOs, devices, sockets, channels) is refused with EAGAIN.
    /// A channel that has ended counts for --max-channels until those on their way over it are taken.
    /// From 2 to 500: for more the kernel has no room (net.core.wmem_max).
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(2..=500))]
    pub(crate) max_donations: u16,

    /// How many clients can be connected
    ///
    /// No more than --max-total-fds has descriptors for, and --max-total-ids has ids for.
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = positive)]
    pub(crate) max_connections: usize,

    /// How long a message can be, in bytes, both ways
    ///
    /// Clients are told, and read and write in parts. What does not fit is refused: a message with EIO,
    /// and so is what would need a longer answer. Each connection and each channel costs two times as
    /// much memory once it has been used.
    #[arg(long, value_name = "BYTES", default_value_t = MOST_BYTES,
        value_parser = clap::value_parser!(u32).range(i64::from(LEAST_BYTES)..=i64::from(MOST_BYTES)))]
    pub(crate) max_message_size: u32,

    /// How many names the path of one walk can have
    ///
    /// By default as many as the answer has room for, which are some 13,800.
    #[arg(long, value_name = "N", value_parser = positive)]
    pub(crate) max_walk: Option<usize>,

    /// How to wait for requests on channels: adaptive, park, or spin=USEC
    ///
    /// `adaptive` polls where that has paid, and sleeps else. `park` sleeps. `spin` polls for so many
    /// microseconds before it sleeps: answers are faster, and a CPU is busy meanwhile.
    #[arg(long, value_name = "HOW", default_value_t)]
    pub(crate) wait: WaitPolicy,

    /// How far to lock this process in before it hears of a client
    ///
    /// It then reaches nothing but DIR, mounted nosuid, nodev unless devices are served, and read-only
    /// with --readonly; it has few capabilities or none, and can make no system calls but those that
    /// serving takes. `lisafs-gofer check` says what of this can be had here.
    ///
    /// What is mounted below DIR later on is not served then, and root can no longer set trusted.* and
    /// other attributes that take CAP_SYS_ADMIN.
    #[arg(long, value_name = "HOW", value_enum, default_value_t = Sandbox::Strict)]
    pub(crate) sandbox: Sandbox,

    /// Write a line for each request on stderr, as strace does for system calls
    ///
    /// No client waits for whoever reads them: lines that are not taken in time are left out, and
    /// how many is said. Names are shown, contents of files are not.
    #[arg(long)]
    pub(crate) trace: bool,

    /// Make a socket at this path, for this user only, on which metrics can be asked for
    ///
    /// In the format that Prometheus scrapes: `curl --unix-socket SOCKET http://gofer/metrics`. A
    /// socket that is there already is replaced if nobody listens on it. `lisafs top` shows them.
    #[arg(long, value_name = "SOCKET")]
    pub(crate) metrics: Option<PathBuf>,

    /// What to log on stderr: off, error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", default_value = "warn")]
    pub(crate) log: LevelFilter,
}

impl ServeOptions {
    /// The limits of a client of a process that may have so many descriptors.
    pub(crate) fn connection(&self, descriptors: usize) -> ConnectionOpts {
        ConnectionOpts {
            readonly: self.readonly,
            max_channels: self.max_channels,
            max_ids: self.max_ids,
            max_fds: self.max_fds.unwrap_or_else(|| self.share(descriptors)),
            max_donations: self.max_donations.into(),
            max_message_size: self.max_message_size,
            max_walk: self.max_walk.unwrap_or(usize::MAX),
            wait: self.wait,
            ..ConnectionOpts::default()
        }
    }

    /// The limits of all clients together, for a process that may have so many descriptors.
    pub(crate) fn totals(&self, descriptors: usize) -> Totals {
        let one = self.connection(descriptors);
        let most = descriptors - descriptors / 4;
        // Three quarters of which are what it takes.
        let for_one = (one.most_fds() / 3).saturating_add(1).saturating_mul(4);
        let clients = match self.fd {
            Some(_) => 1,
            None => self.max_connections,
        };
        // The quarter that nobody else gets has room for all of it.
        let for_all = one.sure_ids().saturating_mul(clients);
        Totals {
            max_fds: self.max_total_fds.unwrap_or(most.max(for_one)),
            max_ids: self
                .max_total_ids
                .unwrap_or(one.max_ids.max(for_all).saturating_mul(4)),
        }
    }

    /// What a client gets of so many descriptors: not so much that it alone can leave nothing to
    /// the others, or to the sockets of this process.
    fn share(&self, descriptors: usize) -> usize {
        let quarter = descriptors / 4;
        let share = match self.fd {
            Some(_) => descriptors - quarter,
            None => quarter,
        };
        share.clamp(1, MOST_FDS)
    }
}

/// The longest message, in bytes: what the protocol's peers are used to.
const MOST_BYTES: u32 = lisafs::wire::DEFAULT_MAX_MESSAGE_SIZE;

/// The least that messages can be limited to, in bytes: the longest path or link target and what goes
/// with it fits.
const LEAST_BYTES: u32 = 8192;

/// What a client gets of the descriptors unless somebody says otherwise, whatever there is.
const MOST_FDS: usize = 1 << 20;

/// How far the process is locked in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sandbox {
    /// All of it, or it does not start
    Strict,
    /// What there is; what is missing is said
    BestEffort,
    /// Not at all: clients are kept from other files by the checks of this process alone
    Off,
}

fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("it has to be at least 1".to_owned()),
        Ok(number) => Ok(number),
        Err(why) => Err(format!("{why}")),
    }
}

#[cfg(test)]
mod tests {
    use lisafs::server::Quota;

    use super::*;

    fn options(arguments: &[&str]) -> ServeOptions {
        let words = ["lisafs-gofer", "serve", "/"].iter().chain(arguments);
        match Args::try_parse_from(words).unwrap().verb {
            Verb::Serve(options) => options,
            _ => panic!("another verb"),
        }
    }

    fn max_fds(arguments: &[&str], descriptors: usize) -> usize {
        options(arguments).connection(descriptors).max_fds
    }

    #[test]
    fn a_client_gets_its_share_of_the_descriptors() {
        assert_eq!(max_fds(&["--listen", "s"], 4096), 1024);
        assert_eq!(max_fds(&["--fd", "0"], 4096), 3072);
        assert_eq!(max_fds(&["--listen", "s"], 3), 1);
        assert_eq!(max_fds(&["--fd", "0"], usize::MAX), 1 << 20);
        assert_eq!(max_fds(&["--fd", "0", "--max-fds", "9000"], 4096), 9000);
    }

    #[test]
    fn all_clients_get_three_quarters_or_what_one_takes() {
        let totals = |arguments: &[&str], descriptors| options(arguments).totals(descriptors);
        let usual = totals(&["--listen", "s"], 4096);
        assert_eq!((usual.max_fds, usual.max_ids), (3072, 4 << 20));
        for arguments in [["--fd", "0"], ["--listen", "s"]] {
            for descriptors in [3, 100, 4096] {
                let one = options(&arguments).connection(descriptors).most_fds();
                let all = totals(&arguments, descriptors).max_fds;
                assert!(all - all / 4 >= one, "{all}, and one takes {one}");
            }
        }
        let one = totals(&["--fd", "0", "--max-ids", "100"], 4096);
        assert_eq!(one.max_ids, 400);
        let asked = ["--max-total-fds", "7", "--max-total-ids", "9"];
        assert_eq!(
            totals(&asked, 4096),
            Totals {
                max_fds: 7,
                max_ids: 9
            }
        );
    }

    /// As many clients as there may be, though each takes all that it gets before the next one comes.
    #[test]
    fn there_are_ids_for_as_many_clients_as_there_may_be() {
        for max_ids in ["1", "100", "1023", "1024", "1025", "5000", "200000"] {
            for max_connections in ["1", "2", "5", "64"] {
                let arguments = ["--max-ids", max_ids, "--max-connections", max_connections];
                let options = options(&arguments);
                let one = options.connection(4096);
                let pool = Quota::new(options.totals(4096).max_ids);
                let mut held = Vec::new();
                for number in 1..=options.max_connections {
                    let ids = Quota::within(&pool, one.sure_ids(), one.max_ids);
                    let ids = ids.unwrap_or_else(|_| panic!("{arguments:?}: no client {number}"));
                    let mine: Vec<_> = std::iter::from_fn(|| ids.take().ok()).collect();
                    assert!(mine.len() >= one.sure_ids(), "{arguments:?}: {number}");
                    assert!(number > 1 || mine.len() == one.max_ids, "{arguments:?}");
                    held.push(mine);
                }
            }
        }
    }
}
