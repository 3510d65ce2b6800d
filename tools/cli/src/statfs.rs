//! `statfs`.

use std::path::{Path, PathBuf};

use lisafs::wire;

use crate::args::REMOTE;
use crate::console::Console;
use crate::failure::Stop;
use crate::json::Object;
use crate::session::Session;

/// Show how full file systems are
///
/// Shows the file system that each file is on: its type, its size, what is free of it, and what of
/// that is available to users without privileges.
#[derive(Debug, clap::Args)]
pub(crate) struct StatFs {
    /// A file on it
    #[arg(default_value = "/", value_hint = REMOTE)]
    paths: Vec<PathBuf>,
}

impl StatFs {
    pub(crate) fn run(&self, session: &Session, console: &mut Console) -> Result<(), Stop> {
        let client = session.client()?;
        for path in &self.paths {
            let stat = client.stat_fs(session.at(path));
            let Some(stat) = console.or_complain(path, stat)? else {
                continue;
            };
            if console.is_json() {
                console.object(object(path, &stat))?;
            } else {
                text(console, path, &stat)?;
            }
        }
        Ok(())
    }
}

fn object(path: &Path, stat: &wire::StatFs) -> Object {
    let object = Object::new()
        .bytes("path", path)
        .set("type", format!("{:#x}", stat.kind))
        .set("block_size", stat.block_size)
        .set("blocks", stat.blocks)
        .set("blocks_free", stat.blocks_free)
        .set("blocks_available", stat.blocks_available)
        .set("files", stat.files)
        .set("files_free", stat.files_free)
        .set("name_length", stat.name_length);
    match name_of(stat.kind) {
        Some(name) => object.set("type_name", name),
        None => object,
    }
}

fn text(console: &mut Console, path: &Path, stat: &wire::StatFs) -> Result<(), Stop> {
    let block = u64::try_from(stat.block_size).unwrap_or_default();
    let size = |blocks: u64| Size(u128::from(blocks) * u128::from(block));
    console.line_with("     path: ", path.as_os_str())?;
    console.line(&match name_of(stat.kind) {
        Some(name) => format!("     type: {name} ({:#x})", stat.kind),
        None => format!("     type: {:#x}", stat.kind),
    })?;
    console.line(&format!(
        "     size: {} in {} blocks of {}",
        size(stat.blocks),
        stat.blocks,
        stat.block_size
    ))?;
    let used = stat.blocks.saturating_sub(stat.blocks_free);
    console.line(&format!(
        "     used: {}, {}%",
        size(used),
        percent(used, used.saturating_add(stat.blocks_available))
    ))?;
    console.line(&format!("     free: {}", size(stat.blocks_free)))?;
    console.line(&format!("available: {}", size(stat.blocks_available)))?;
    console.line(&format!(
        "   inodes: {}, {} free",
        stat.files, stat.files_free
    ))?;
    console.line(&format!("    names: up to {} bytes", stat.name_length))
}

/// As df(1) has it: rounded up, of what users without privileges can have.
fn percent(part: u64, whole: u64) -> u128 {
    match whole {
        0 => 0,
        whole => (u128::from(part) * 100).div_ceil(whole.into()),
    }
}

/// So many bytes, for people: `4.0 GiB`.
struct Size(u128);

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        let Size(bytes) = *self;
        // In tenths, so that there is no rounding to a thousand of the smaller unit.
        let mut tenths = bytes * 10;
        let mut unit = "bytes";
        for next in UNITS {
            if tenths < 10_240 {
                break;
            }
            tenths = tenths.div_ceil(1024);
            unit = next;
        }
        if unit == "bytes" {
            return write!(f, "{bytes} {unit}");
        }
        write!(f, "{}.{} {unit}", tenths / 10, tenths % 10)
    }
}

/// What a magic number is called, of the file systems that are likely to be served.
fn name_of(kind: u64) -> Option<&'static str> {
    Some(match kind {
        0xef53 => "ext",
        0x0102_1994 => "tmpfs",
        0x5846_5342 => "xfs",
        0x9123_683e => "btrfs",
        0x794c_7630 => "overlayfs",
        0x2fc1_2fc1 => "zfs",
        0x6573_5546 => "fuse",
        0x6969 => "nfs",
        0xff53_4d42 | 0xfe53_4d42 => "smb",
        0x0102_1997 => "9p",
        0x4d44 => "fat",
        0x2011_bab0 => "exfat",
        0x5346_544e => "ntfs",
        0x9660 => "isofs",
        0x7371_7368 => "squashfs",
        0xe0f5_e1e2 => "erofs",
        0xf2f5_2010 => "f2fs",
        0x8584_58f6 => "ramfs",
        0x9fa0 => "proc",
        0x6265_6572 => "sysfs",
        0x6367_7270 => "cgroup2",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_rounded_up_in_their_unit() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1024, "1.0 KiB"),
            (1025, "1.1 KiB"),
            ((1 << 20) - 1, "1.0 MiB"),
            (5 << 30, "5.0 GiB"),
            (u128::from(u64::MAX) * 1024, "16384.0 EiB"),
        ] {
            assert_eq!(Size(bytes).to_string(), text);
        }
    }

    #[test]
    fn nothing_is_no_part_of_nothing() {
        assert_eq!(percent(0, 0), 0);
        assert_eq!(percent(1, 1000), 1);
        assert_eq!(percent(u64::MAX, u64::MAX), 100);
    }
}
