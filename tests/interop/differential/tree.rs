//! A tree as the host has it, in words.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// All that is below `dir`, and `dir` itself.
pub(super) fn tree(dir: &Path) -> Result<Vec<String>, String> {
    let mut lines = Vec::new();
    describe(dir, "", &mut lines).map_err(|error| error.to_string())?;
    lines.sort_unstable();
    Ok(lines)
}

fn describe(path: &Path, shown: &str, lines: &mut Vec<String>) -> io::Result<()> {
    let stat = fs::symlink_metadata(path)?;
    let (mode, nlink, owner) = (stat.mode(), stat.nlink(), (stat.uid(), stat.gid()));
    let kind = stat.file_type();
    let content = match (kind.is_file(), kind.is_symlink()) {
        // Nobody reads what only root could, or what is all holes.
        (true, _) if stat.len() > 1 << 20 => format!("{} bytes", stat.len()),
        (true, _) => match fs::read(path) {
            Ok(content) => format!("{content:?}"),
            Err(_) => format!("{} bytes", stat.len()),
        },
        (_, true) => format!("{:?}", fs::read_link(path)?),
        _ => String::new(),
    };
    lines.push(format!("{shown} {mode:o} {nlink} {owner:?} {content}"));
    if kind.is_dir() {
        for entry in fs::read_dir(path).into_iter().flatten() {
            let entry = entry?;
            let name = entry.file_name();
            let shown = format!("{shown}/{}", name.to_string_lossy());
            describe(&entry.path(), &shown, lines)?;
        }
    }
    Ok(())
}
