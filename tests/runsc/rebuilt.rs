//! The ways without patching: a `runsc` that was built to start its gofers elsewhere.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::bundle::Bundle;
use crate::command;
use crate::life::{FOREVER, whose_gofer};
use crate::sandbox::Runsc;
use crate::scratch::SCRATCH;
use crate::stage::{Act, Seen, Stage};
use crate::subject::Subject;

pub(crate) const CASES: &[(&str, Act)] = &[
    ("rebuilt/linker-flag", |stage| {
        run(
            stage,
            "gvisor.dev/gvisor/runsc",
            "gvisor.dev/gvisor/runsc/specutils.ExePath",
        )
    }),
    ("rebuilt/program", |stage| {
        run(stage, "./runsc-lisafs", "main.multiplexer")
    }),
];

/// Uses what is built from `package` with the path of the multiplexer in `variable`.
fn run(stage: &Stage, package: &str, variable: &str) -> Result<Seen, String> {
    let mut seen = Seen::default();
    let binary = match stage.subject {
        Subject::Stock => stage.binary.clone(),
        Subject::Ours => install(stage, package, variable)?,
    };
    let runsc = || -> Result<Runsc, String> {
        let runsc = Runsc::new(&binary, stage.platform)?;
        Ok(runsc.flag("--directfs=false").flag("--overlay2=none"))
    };
    let mut bundle = Bundle::new()?;
    let root = format!("--root={}", bundle.root("").display());
    let options = ["--force-overlay=false", &root];
    let script = "echo made >/made; cat /made";
    seen.says(runsc()?.run_do(&options, script)?, "made\n")?;
    bundle.args(&FOREVER);
    let runsc = runsc()?;
    let container = runsc.create(&bundle)?;
    container.start()?;
    whose_gofer(stage, &runsc)?;
    container.delete()?;
    Ok(seen)
}

fn install(stage: &Stage, package: &str, variable: &str) -> Result<PathBuf, String> {
    let name = package.replace(['/', '.'], "-");
    let prefix = Path::new(SCRATCH).join(format!("prefix{name}"));
    let multiplexer = prefix.join("libexec/lisafs/multiplexer");
    let rebuilt = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("rebuilt{name}"));
    let mut build = Command::new("go");
    build
        .args(["build", "-buildvcs=false", "-o"])
        .arg(&rebuilt)
        .arg("-ldflags")
        .arg(format!("-X {variable}={}", multiplexer.display()))
        .arg(package)
        .env("CGO_ENABLED", "0")
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/interop/go"));
    command::run(&mut build, Duration::from_secs(1200))?.success()?;
    let mut install = Command::new(env!("CARGO_BIN_EXE_lisafs-gofer"));
    install
        .arg("install")
        .arg("--runsc")
        .arg(stage.release.runsc()?);
    install
        .arg("--rebuilt")
        .arg(rebuilt)
        .arg("--prefix")
        .arg(&prefix);
    command::run(&mut install, Duration::from_secs(60))?.success()?;
    Ok(prefix.join("bin/runsc-lisafs"))
}
