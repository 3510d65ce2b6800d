//! What can be named in a document: the tests of the repository, and what its sources are made of.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::cases;

/// Where sources are.
const PLACES: [&str; 4] = ["src", "transport", "tools", "tests"];

/// The releases of runsc that cases are run with, as their names begin.
const RELEASES: [&str; 2] = ["debian", "head"];

struct File {
    /// Relative to the repository.
    path: PathBuf,
    text: String,
}

pub(crate) struct Sources {
    repository: PathBuf,
    files: Vec<File>,
    /// Functions with `#[test]`, as `cargo test` names them.
    functions: BTreeSet<String>,
}

impl Sources {
    pub(crate) fn read() -> io::Result<Sources> {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut files = Vec::new();
        let mut left: Vec<PathBuf> = PLACES.iter().map(PathBuf::from).collect();
        while let Some(dir) = left.pop() {
            for entry in fs::read_dir(repository.join(&dir))? {
                let entry = entry?;
                let path = dir.join(entry.file_name());
                if entry.file_type()?.is_dir() {
                    // What other builds have left there.
                    if !path.ends_with("target") {
                        left.push(path);
                    }
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    let text = fs::read_to_string(entry.path())?;
                    files.push(File { path, text });
                }
            }
        }
        let functions = files.iter().flat_map(File::functions).collect();
        Ok(Sources {
            repository,
            files,
            functions,
        })
    }

    pub(crate) fn document(&self, name: &str) -> Result<String, String> {
        let path = self.repository.join("docs").join(name);
        fs::read_to_string(path).map_err(|why| format!("docs/{name}: {why}"))
    }

    pub(crate) fn has_file(&self, path: &str) -> bool {
        self.repository.join(path).exists()
    }

    /// Whether a test is called so: a function, a trial of a suite without functions, a case of this
    /// suite, of the conformance suite or of those under runsc, or all of a suite by its directory.
    pub(crate) fn has_test(&self, name: &str) -> bool {
        let case = name.split_once('/').and_then(|(release, rest)| {
            let (_platform, case) = rest.split_once('/')?;
            RELEASES.contains(&release).then_some(case)
        });
        if let Some(case) = case {
            let quoted = format!("\"{case}\"");
            return self.contain(Path::new("tests/runsc"), &quoted);
        }
        if name.starts_with("tests/") {
            return self.has_file(name);
        }
        self.functions.contains(name)
            || cases::all().any(|case| case.plain_name() == name)
            || lisafs_conformance::cases()
                .iter()
                .any(|case| case.name() == name)
            || self.has_trial(name)
    }

    fn has_trial(&self, name: &str) -> bool {
        let is_word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        let quoted = format!("\"{name}\"");
        let in_macro = format!("::{name}\n");
        name.chars().all(is_word)
            && (self.contain(Path::new("tools/gofer/tests/sandbox"), &quoted)
                || self.contain(Path::new("tests/host/main.rs"), &in_macro))
    }

    /// The files of the library, tests and the client aside, that log something each time: with a macro of `tracing` and
    /// not with `rarely`, and at a level that is on where nobody has asked for more.
    pub(crate) fn logging(&self) -> impl Iterator<Item = &Path> {
        let macros = ["error!(", "warn!(", "info!("].map(|name| format!("tracing::{name}"));
        // By names of their own they would not be found.
        let macros = [&macros[..], &["use tracing".to_owned()]].concat();
        let in_library = self.files.iter().filter(|file| {
            let mut parts = file.path.iter();
            parts.next().is_some_and(|place| place == "src")
                && !parts
                    .any(|part| ["client", "tests", "tests.rs"].contains(&&*part.to_string_lossy()))
        });
        in_library
            .filter(move |file| macros.iter().any(|name| file.text.contains(name)))
            .map(|file| file.path.as_path())
    }

    /// The files of the gofer, tests aside, with the number of lines that they log each time. Those that begin with
    /// the `count` of `Occurrences` are no such lines.
    pub(crate) fn logging_in_gofer(&self) -> BTreeMap<&str, usize> {
        let gofer = Path::new("tools/gofer/src");
        let below = self.files.iter().filter_map(|file| {
            let path = file.path.strip_prefix(gofer).ok()?.to_str()?;
            let code = file.text.split("#[cfg(test)]\nmod tests").next()?;
            let lines = ["error!(", "warn!(", "info!("]
                .iter()
                .flat_map(|name| code.split(name).skip(1))
                .filter(|rest| !rest.trim_start().starts_with("count,"))
                .count();
            (lines > 0 && !path.ends_with("tests.rs")).then_some((path, lines))
        });
        below.collect()
    }

    /// Whether there are tests in a file, or below a directory: functions, trials, cases of the host
    /// back end's suite, or a program that is one.
    pub(crate) fn has_tests(&self, path: &str) -> bool {
        let is_program = !path.ends_with(".rs") && self.repository.join(path).is_file();
        let mut below = self.files.iter().filter(|file| file.path.starts_with(path));
        is_program
            || below.any(|file| {
                let is_said = |what: &str| file.text.contains(what);
                let cases = file.path.strip_prefix("tests/host").ok().and_then(|name| {
                    let module = name.to_str()?.strip_suffix(".rs")?;
                    Some(format!("{module}::"))
                });
                is_said("#[test]")
                    || is_said("Trial::")
                    || is_said("TRIALS")
                    || is_said("Vec<Trial>")
                    || cases.is_some_and(|it| self.contain(Path::new("tests/host/main.rs"), &it))
            })
    }

    fn contain(&self, place: &Path, text: &str) -> bool {
        let mut files = self.files.iter();
        files.any(|file| file.path.starts_with(place) && file.text.contains(text))
    }

    /// Whether something in the sources, tests aside, is called so: a word, or one in a file with another,
    /// which can be the name of the file. What is no name is not looked for.
    pub(crate) fn has_code(&self, name: &str) -> bool {
        let option = name.strip_prefix("--").map(|it| it.replace('-', "_"));
        let name = option.as_deref().unwrap_or(name);
        let words: Vec<_> = name.split("::").collect();
        let is_name = |word: &&str| {
            let mut letters = word.chars();
            !word.is_empty() && letters.all(|it| it.is_ascii_alphanumeric() || it == '_')
        };
        !words.iter().all(is_name) || self.files.iter().any(|file| file.has_words(&words))
    }
}

impl File {
    /// The modules that lead to it from the root of its crate.
    fn modules(&self) -> Vec<String> {
        let parts: Vec<_> = self.path.iter().filter_map(|part| part.to_str()).collect();
        let is_of_tests = |at: usize| parts.get(at) == Some(&"tests");
        let root = match parts
            .iter()
            .position(|part| ["src", "tests"].contains(part))
        {
            // A package among the tests.
            Some(0) if is_of_tests(0) && [Some(&"src"), Some(&"tests")].contains(&parts.get(2)) => {
                2
            }
            Some(at) => at,
            None => return Vec::new(),
        };
        // The name of a test program is none of a module.
        let first = root + 1 + usize::from(is_of_tests(root));
        let modules = parts.into_iter().skip(first);
        let modules = modules.map(|part| part.trim_end_matches(".rs").to_owned());
        modules
            .filter(|part| !["mod", "main", "lib"].contains(&part.as_str()))
            .collect()
    }

    /// Its functions that are tests, with their modules.
    fn functions(&self) -> Vec<String> {
        let modules = self.modules();
        let mut inner: Option<&str> = None;
        let (mut is_next, mut all) = (false, Vec::new());
        for line in self.text.lines() {
            if let Some(name) = line.strip_prefix("mod ") {
                inner = name.strip_suffix(" {");
            } else if line == "}" {
                inner = None;
            }
            let line = line.trim_start();
            if line == "#[test]" {
                is_next = true;
            } else if let Some(rest) = line.strip_prefix("fn ").filter(|_| is_next) {
                is_next = false;
                let name = rest.split('(').next().unwrap_or_default();
                let path = modules.iter().map(String::as_str).chain(inner);
                let path: Vec<_> = path.chain([name]).collect();
                all.push(path.join("::"));
            }
        }
        all
    }

    fn has_words(&self, words: &[&str]) -> bool {
        let is_below = |dir: &str| self.path.iter().any(|part| part == dir);
        let is_source = is_below("src") && !is_below("tests");
        let has = |word: &&str| {
            let is_letter = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
            let mut all = self.text.split(|letter| !is_letter(letter));
            let is_said = self.text.contains(word) && all.any(|it| it == *word);
            is_said || self.modules().iter().any(|module| module == word)
        };
        is_source && words.iter().all(has)
    }
}
