//! The tables of `docs/security.md` and `docs/incidents.md`, which are to name what there is.

use std::collections::BTreeMap;

use crate::attacks::{self, Row};
use crate::cases;
use crate::sources::Sources;

/// Whether each attack and each defect has a row there, with its name, files that there are, cases that
/// are about it, and the number of those that are not named.
///
/// # Errors
/// Names all that is wrong.
pub(crate) fn check() -> Result<(), String> {
    let sources = Sources::read().map_err(|why| format!("the sources: {why}"))?;
    let text = sources.document("security.md")?;
    let mut documented: BTreeMap<&str, Vec<Vec<&str>>> = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("| A")) {
        let columns: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        documented.entry(columns[0]).or_default().push(columns);
    }
    let mut wrong = Vec::new();
    for row in attacks::rows() {
        let mut complain = |what: String| wrong.push(format!("{} there: {what}", row.number));
        match documented.remove(row.number).as_deref() {
            Some([columns]) if columns.len() > 2 && columns[1] == row.what => {
                let (tests, places) = columns.split_last().unwrap_or((&"", &[]));
                compare(&row, tests, &sources, &mut complain);
                for place in places {
                    look_for(place, &sources, &mut complain);
                }
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

/// What is in backquotes.
fn names(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Looks for the files and the parts of the code that are said to stop something.
fn look_for(place: &str, sources: &Sources, complain: &mut impl FnMut(String)) {
    for name in names(place) {
        let is_there = if name.contains('/') {
            sources.has_file(name)
        } else {
            sources.has_code(name)
        };
        if !is_there {
            complain(format!("there is no {name}"));
        }
    }
}

/// Whether each incident has a test, and the tests and the places that are named are there.
///
/// # Errors
/// Names all that is wrong.
pub(crate) fn check_incidents() -> Result<(), String> {
    let sources = Sources::read().map_err(|why| format!("the sources: {why}"))?;
    let text = sources.document("incidents.md")?;
    let mut wrong = Vec::new();
    let mut rows = 0;
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let is_heading = lines.peek().is_some_and(|next| next.starts_with("|-"));
        if !line.starts_with("| ") || is_heading {
            continue;
        }
        rows += 1;
        let columns: Vec<_> = line.trim_matches('|').split('|').collect();
        let mut complain = |what: String| wrong.push(format!("{}: {what}", columns[0].trim()));
        let [_, .., place, tests] = columns[..] else {
            complain("columns are missing".to_owned());
            continue;
        };
        look_for(place, &sources, &mut complain);
        if names(tests).next().is_none() {
            complain("it has no test".to_owned());
        }
        for test in names(tests).filter(|test| !sources.has_test(test)) {
            complain(format!("there is no test {test}"));
        }
    }
    if wrong.is_empty() && rows > 0 {
        Ok(())
    } else {
        let wrong = wrong.join("\n");
        Err(format!(
            "docs/incidents.md, {rows} rows, is wrong:\n{wrong}"
        ))
    }
}

/// Compares the tests that are named in a row with those that there are.
fn compare(row: &Row, tests: &str, sources: &Sources, complain: &mut impl FnMut(String)) {
    let (files, named): (Vec<_>, Vec<_>) = names(tests).partition(|name| name.contains('/'));
    for file in &files {
        if !sources.has_file(file) {
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
