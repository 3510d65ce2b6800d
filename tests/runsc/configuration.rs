//! The sandboxes that `e2e` compares.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;
use std::time::Duration;

use crate::command;
use crate::sandbox::Runsc;
use crate::subject::Subject;

/// How files are looked at: may anybody else change them?
pub(crate) const MODES: [&str; 2] = ["exclusive", "shared"];

/// A sandbox of one kind.
pub(crate) struct Configuration {
    /// `MODE/KIND`, where the kind is `directfs`, `stock`, `ours` or a variant of ours.
    pub(crate) name: String,
    pub(crate) mode: &'static str,
    pub(crate) kind: String,
    binary: PathBuf,
    flags: Vec<String>,
    env: Vec<(String, String)>,
}

impl Configuration {
    pub(crate) fn runsc(&self, platform: &str, cpus: Option<&str>) -> Result<Runsc, String> {
        let mut runsc = Runsc::new(&self.binary, platform)?;
        for flag in &self.flags {
            runsc = runsc.flag(flag);
        }
        for (name, value) in &self.env {
            runsc = runsc.env(name, value);
        }
        Ok(match cpus {
            Some(cpus) => runsc.on_cpus(cpus),
            None => runsc,
        })
    }
}

/// A named set of environment variables for our gofer.
#[derive(Clone, Debug)]
pub(crate) struct Variant {
    name: String,
    env: Vec<(String, String)>,
}

impl FromStr for Variant {
    type Err = String;

    fn from_str(text: &str) -> Result<Variant, String> {
        let (name, settings) = text.split_once(':').ok_or("NAME:KEY=VALUE is expected")?;
        let env = settings
            .split(',')
            .map(|setting| match setting.split_once('=') {
                Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
                None => Err(format!("{setting:?} is not KEY=VALUE")),
            })
            .collect::<Result<_, String>>()?;
        Ok(Variant {
            name: name.to_owned(),
            env,
        })
    }
}

/// All that `words` select of the configurations that this `runsc` knows.
pub(crate) fn all(
    stock: &Path,
    variants: &[Variant],
    words: &[String],
) -> Result<Vec<Configuration>, String> {
    let known = command::run(Command::new(stock).arg("flags"), Duration::from_secs(10))?;
    let directfs = (known.stdout + &known.stderr).contains("-directfs");
    let mut kinds = vec![("stock".to_owned(), Subject::Stock, "false", Vec::new())];
    if directfs {
        kinds.insert(
            0,
            ("directfs".to_owned(), Subject::Stock, "true", Vec::new()),
        );
    }
    kinds.push(("ours".to_owned(), Subject::Ours, "false", Vec::new()));
    for variant in variants {
        kinds.push((
            variant.name.clone(),
            Subject::Ours,
            "false",
            variant.env.clone(),
        ));
    }
    let mut configurations = Vec::new();
    for mode in MODES {
        for (kind, subject, direct, env) in &kinds {
            let name = format!("{mode}/{kind}");
            if !words.is_empty() && !words.iter().any(|word| name.contains(word)) {
                continue;
            }
            let mut flags = vec![
                format!("--file-access={mode}"),
                "--overlay2=none".to_owned(),
            ];
            if directfs {
                flags.push(format!("--directfs={direct}"));
            }
            configurations.push(Configuration {
                name,
                mode,
                kind: kind.clone(),
                binary: subject.runsc(stock)?,
                flags,
                env: env.clone(),
            });
        }
    }
    if configurations.is_empty() {
        return Err(format!("no configuration is called {}", words.join(" or ")));
    }
    Ok(configurations)
}
