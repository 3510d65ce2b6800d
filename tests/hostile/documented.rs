//! The tables of `docs/security.md`, which are to name what there is.

use std::collections::BTreeMap;
use std::path::Path;

use crate::attacks::{self, Row};
use crate::cases;

/// Whether each attack and each defect has a row there, with its name, files that there are, cases that
/// are about it, and the number of those that are not named. The tests that follow from them (`A3`) need
/// none.
///
/// # Errors
/// Names all that is wrong.
pub(crate) fn check() -> Result<(), String> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let text = std::fs::read_to_string(repository.join("docs/security.md"))
        .map_err(|why| format!("docs/security.md: {why}"))?;
    let mut documented: BTreeMap<&str, Vec<Vec<&str>>> = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("| A")) {
        let columns: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        documented.entry(columns[0]).or_default().push(columns);
    }
    let mut wrong = Vec::new();
    for row in attacks::rows().filter(|row| !row.number.starts_with("A3-")) {
        let mut complain = |what: String| wrong.push(format!("{} there: {what}", row.number));
        match documented.remove(row.number).as_deref() {
            Some([columns]) if columns.len() > 2 && columns[1] == row.what => {
                compare(&row, columns[columns.len() - 1], &repository, &mut complain);
            }
            other => complain(format!("{:?} in place of {:?}", other, row.what)),
        }
    }
    wrong.extend(
        documented
            .keys()
            .map(|number| format!("{number} there is no attack")),
    );
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(format!("docs/security.md is wrong:\n{}", wrong.join("\n")))
    }
}

/// Compares the tests that are named in a row with those that there are.
fn compare(row: &Row, tests: &str, repository: &Path, complain: &mut impl FnMut(String)) {
    let named: Vec<_> = tests.split('`').skip(1).step_by(2).collect();
    let (files, named): (Vec<_>, Vec<_>) = named.into_iter().partition(|name| name.contains('/'));
    for file in &files {
        if !repository.join(file).exists() {
            complain(format!("there is no {file}"));
        }
    }
    for file in row.tests() {
        if !files.contains(&file) {
            complain(format!("{file} is not named"));
        }
    }
    let about: Vec<_> = cases::all()
        .filter(|case| case.numbers.contains(&row.number))
        .map(|case| case.plain_name())
        .collect();
    for name in &named {
        if !about.iter().any(|case| case == name) {
            complain(format!("{name} is no case about it"));
        }
    }
    // "`one`, `another` and 3 more"
    let more = tests.split_once(" and ").and_then(|(_, rest)| {
        let (count, _) = rest.split_once(" more")?;
        count.parse().ok()
    });
    if named.len() + more.unwrap_or(0_usize) != about.len() {
        complain(format!("the cases are {}", about.join(", ")));
    }
}
