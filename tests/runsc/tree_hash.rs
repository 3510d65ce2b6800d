//! A host tree as lines that can be compared.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use crate::probe;

/// A line for each entry below `root`, in the order of their names: path, type, permissions,
/// owner, links, and what it holds; then one for each extended attribute.
///
/// Sizes and link counts of directories are the host's affair. The time of modification counts for
/// names that end in `.dated`.
pub(crate) fn tree(root: &Path) -> Result<Vec<String>, String> {
    let mut lines = Vec::new();
    walk(root, root, &mut lines)?;
    let attributes = probe::run("list", root)?;
    let prefix = root.display().to_string();
    lines.extend(attributes.lines().map(|line| line.replacen(&prefix, "", 1)));
    Ok(lines)
}

fn walk(root: &Path, dir: &Path, lines: &mut Vec<String>) -> Result<(), String> {
    let io = |error: std::io::Error| format!("{}: {error}", dir.display());
    let mut paths = fs::read_dir(dir)
        .and_then(|entries| {
            entries
                .map(|entry| Ok(entry?.path()))
                .collect::<Result<Vec<_>, _>>()
        })
        .map_err(io)?;
    paths.sort();
    for path in paths {
        let stat = fs::symlink_metadata(&path).map_err(io)?;
        let kind = stat.file_type();
        let holds = if kind.is_file() {
            let mut hasher = DefaultHasher::new();
            fs::read(&path).map_err(io)?.hash(&mut hasher);
            format!(
                "links {} size {} hash {:016x}",
                stat.nlink(),
                stat.size(),
                hasher.finish()
            )
        } else if kind.is_symlink() {
            format!("to {:?}", fs::read_link(&path).map_err(io)?)
        } else if kind.is_char_device() || kind.is_block_device() {
            format!("device {:x}", stat.rdev())
        } else {
            String::new()
        };
        let inside = path.strip_prefix(root).unwrap_or(&path);
        let mut line = format!(
            "{inside:?} mode {:o} owner {}:{} {holds}",
            stat.mode(),
            stat.uid(),
            stat.gid()
        );
        if path
            .extension()
            .is_some_and(|extension| extension == "dated")
        {
            line += &format!(" modified {}.{:09}", stat.mtime(), stat.mtime_nsec());
        }
        lines.push(line);
        if kind.is_dir() {
            walk(root, &path, lines)?;
        }
    }
    Ok(())
}
