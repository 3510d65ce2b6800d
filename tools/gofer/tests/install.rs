//! Installing beside a `runsc` of this machine, and being the multiplexer for it.
//!
//! What this user or this machine cannot do is ignored, and says why.
#![allow(clippy::unwrap_used)] // a test may panic

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output};

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use nix::unistd::getuid;
use tempfile::TempDir;

/// A prefix, and a directory with a path so short that links in it fit into a runsc.
struct Place {
    prefix: TempDir,
    short: TempDir,
}

impl Place {
    fn new() -> Place {
        let prefix = tempfile::tempdir().unwrap();
        // Those who run as nobody have to get there.
        fs::set_permissions(prefix.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let mut short = tempfile::Builder::new();
        let short = short.prefix("l").rand_bytes(4).tempdir_in("/tmp").unwrap();
        fs::set_permissions(short.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Place { prefix, short }
    }

    fn prefix(&self) -> PathBuf {
        self.prefix.path().join("usr")
    }

    fn libexec(&self, name: &str) -> PathBuf {
        self.prefix().join("libexec/lisafs").join(name)
    }

    fn link(&self) -> PathBuf {
        self.short.path().join("m")
    }

    fn install(&self, runsc: &Path) -> Output {
        let mut command = gofer("install", &self.prefix());
        command.arg("--runsc").arg(runsc);
        command.arg("--link").arg(self.link()).output().unwrap()
    }

    fn uninstall(&self) -> Output {
        gofer("uninstall", &self.prefix()).output().unwrap()
    }

    fn is_empty(&self) -> bool {
        [&self.prefix, &self.short]
            .iter()
            .all(|dir| fs::read_dir(dir.path()).unwrap().next().is_none())
    }
}

fn gofer(verb: &str, prefix: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lisafs-gofer"));
    command.arg(verb).arg("--prefix").arg(prefix);
    command
}

/// A program that a runsc is made of: `LISAFS_RUNSC`, or that of the system.
///
/// # Errors
/// If there is none.
fn runsc() -> Result<PathBuf, &'static str> {
    let named = std::env::var_os("LISAFS_RUNSC").map(PathBuf::from);
    let of_system = || Some(PathBuf::from("/usr/bin/runsc")).filter(|path| path.exists());
    let missing = "there is no /usr/bin/runsc, and LISAFS_RUNSC names none";
    named.or_else(of_system).ok_or(missing)
}

/// What a trial takes.
enum Test {
    Any(fn()),
    /// Some run as nobody here.
    Root(fn()),
    Runsc(fn(&Path)),
    RootAndRunsc(fn(&Path)),
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn refusal(output: &Output) -> &str {
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    text(&output.stderr)
}

fn stdout(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    text(&output.stdout).to_owned()
}

fn what_is_installed_answers_as_the_original_and_goes_without_trace(runsc: &Path) {
    let place = Place::new();
    let before = fs::read(runsc).unwrap();
    let version = stdout(Command::new(runsc).arg("--version"));
    // Twice: what is there is replaced.
    for _ in 0..2 {
        let output = place.install(runsc);
        assert!(output.status.success(), "{output:?}");
        let bin = place.prefix().join("bin/runsc-lisafs");
        assert!(
            text(&output.stdout).contains(bin.to_str().unwrap()),
            "{output:?}"
        );
        for program in [&bin, &place.link()] {
            let mut command = Command::new(program);
            assert_eq!(
                stdout(command.arg("--version").env_clear()),
                version,
                "{program:?}"
            );
        }
        let (original, redirected) = (place.libexec("runsc"), place.libexec("runsc-lisafs"));
        assert!(fs::read(original).unwrap() == before);
        let changed = fs::read(redirected).unwrap();
        let differences = before
            .iter()
            .zip(&changed)
            .filter(|(old, new)| old != new)
            .count();
        assert!((1..=14).contains(&differences) && changed.len() == before.len());
    }
    assert!(
        fs::read(runsc).unwrap() == before,
        "the original was changed"
    );
    let output = place.uninstall();
    assert!(
        output.status.success() && output.stdout.is_empty(),
        "{output:?}"
    );
    assert!(place.is_empty());
    assert!(refusal(&place.uninstall()).contains("nothing was installed"));
}

fn a_link_elsewhere_takes_the_place_of_the_first(runsc: &Path) {
    let place = Place::new();
    assert!(place.install(runsc).status.success());
    let other = place.short.path().join("n");
    let mut command = gofer("install", &place.prefix());
    command.arg("--runsc").arg(runsc).arg("--link").arg(&other);
    stdout(&mut command);
    assert!(!place.link().exists() && other.exists());
    // The link that is known is used again.
    stdout(gofer("install", &place.prefix()).arg("--runsc").arg(runsc));
    assert!(other.exists());
    assert!(place.uninstall().status.success());
    assert!(place.is_empty());
}

fn what_is_not_ours_is_neither_replaced_nor_removed(runsc: &Path) {
    let place = Place::new();
    assert!(refusal(&place.uninstall()).contains("nothing was installed"));
    fs::create_dir_all(place.prefix().join("bin")).unwrap();
    let bin = place.prefix().join("bin/runsc-lisafs");
    fs::write(&bin, "mine").unwrap();
    assert!(refusal(&place.install(runsc)).contains("something else"));
    fs::remove_file(&bin).unwrap();

    fs::create_dir_all(place.libexec("theirs")).unwrap();
    assert!(refusal(&place.install(runsc)).contains("something else"));
    assert!(refusal(&place.uninstall()).contains("nothing was installed"));
    fs::remove_dir_all(place.prefix().join("libexec")).unwrap();

    fs::write(place.link(), "mine").unwrap();
    assert!(refusal(&place.install(runsc)).contains("something here already"));
    assert_eq!(fs::read(place.link()).unwrap(), b"mine");
    assert!(
        !place.prefix().join("libexec").exists(),
        "it left something behind"
    );
    fs::remove_file(place.link()).unwrap();

    // What came into our directories later stays, and so does a link that leads elsewhere now.
    assert!(place.install(runsc).status.success());
    fs::write(place.libexec("theirs"), "").unwrap();
    fs::remove_file(place.link()).unwrap();
    symlink("/elsewhere", place.link()).unwrap();
    let output = place.uninstall();
    assert!(output.status.success(), "{output:?}");
    assert!(
        text(&output.stdout).contains("libexec/lisafs: not empty"),
        "{output:?}"
    );
    assert!(place.libexec("theirs").exists() && place.link().is_symlink());
    assert_eq!(fs::read_dir(place.libexec("")).unwrap().count(), 1);
}

fn what_others_could_change_is_refused(runsc: &Path) {
    let place = Place::new();
    fs::create_dir(place.prefix()).unwrap();
    fs::set_permissions(place.prefix(), fs::Permissions::from_mode(0o777)).unwrap();
    assert!(refusal(&place.install(runsc)).contains("could be changed by everybody"));
    fs::set_permissions(place.prefix(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(place.short.path(), fs::Permissions::from_mode(0o777)).unwrap();
    assert!(refusal(&place.install(runsc)).contains("could be changed by everybody"));
    assert_eq!(fs::read_dir(place.prefix()).unwrap().count(), 0);
}

fn what_nobody_could_reach_is_told(runsc: &Path) {
    let place = Place::new();
    for (hidden, other) in [(&place.prefix, &place.short), (&place.short, &place.prefix)] {
        fs::set_permissions(hidden.path(), fs::Permissions::from_mode(0o700)).unwrap();
        fs::set_permissions(other.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let output = place.install(runsc);
        let note = format!("Not everybody may search {}.", hidden.path().display());
        assert!(text(&output.stdout).contains(&note), "{output:?}");
    }
    fs::set_permissions(place.short.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let output = place.install(runsc);
    assert!(output.status.success(), "{output:?}");
    assert!(
        !text(&output.stdout).contains("Not everybody"),
        "{output:?}"
    );
    assert!(place.uninstall().status.success());
}

fn further_programs_that_others_could_change_are_refused(runsc: &Path) {
    let place = Place::new();
    let theirs = tempfile::tempdir().unwrap();
    let copy = theirs.path().join("runsc");
    fs::copy(runsc, &copy).unwrap();
    let sidecars = theirs.path().join("gvisor-bin");
    fs::create_dir(&sidecars).unwrap();
    fs::set_permissions(&sidecars, fs::Permissions::from_mode(0o777)).unwrap();
    let output = place.install(&copy);
    let why = refusal(&output);
    assert!(
        why.contains("gvisor-bin could be changed by everybody"),
        "{why}"
    );
    assert!(place.is_empty());
}

fn programs_that_are_no_runsc_are_refused() {
    let place = Place::new();
    for (program, reason) in [
        ("/etc/passwd", "not an ELF program"),
        (env!("CARGO_BIN_EXE_lisafs-gofer"), "/proc/self/exe"),
        ("/nowhere", "cannot find /nowhere: No such file"),
    ] {
        let output = place.install(program.as_ref());
        assert!(refusal(&output).contains(reason), "{output:?}");
    }
    assert!(place.is_empty());
}

/// The multiplexer, beside two scripts that tell what they were started with.
struct StandIn {
    place: Place,
}

impl StandIn {
    fn new() -> StandIn {
        let place = Place::new();
        fs::create_dir_all(place.libexec("")).unwrap();
        fs::copy(
            env!("CARGO_BIN_EXE_lisafs-gofer"),
            place.libexec("multiplexer"),
        )
        .unwrap();
        for name in ["runsc", "runsc-lisafs"] {
            let script = place.libexec(name);
            let content = format!(
                "#!/bin/sh\necho {name} \"$#\" \"$@\"\nread line <&7 && echo $line\n\
                 tr '\\0' '\\n' < /proc/self/environ\n"
            );
            fs::write(&script, content).unwrap();
            fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        }
        symlink(place.libexec("multiplexer"), place.link()).unwrap();
        StandIn { place }
    }

    /// Started through the link, by a shell that opens descriptor 7.
    fn command(&self, line: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        let script = "word=$0; exec 7<<end\nseven\nend\nexec \"$word\" \"$@\"";
        command.args(["-c", script]).arg(self.place.link());
        command.args(line.split(' ')).env_clear();
        command
    }
}

fn command_lines_are_passed_on_with_descriptors_and_environment() {
    let stand_in = StandIn::new();
    for (line, program) in [
        ("umount --sync-fd=3 /proc", "runsc"),
        ("boot --bundle=/b", "runsc"),
        ("--rootless do a", "runsc-lisafs"),
        ("--root boot do a", "runsc-lisafs"),
    ] {
        let words = line.split(' ').count();
        let said = stdout(stand_in.command(line).env("SOME", "thing"));
        assert!(
            said.starts_with(&format!("{program} {words} {line}\nseven\n")),
            "{said}"
        );
        assert!(said.contains("SOME=thing"), "{said}");
        assert_eq!(
            stdout(&mut stand_in.command(line)).matches("SOME").count(),
            0
        );
    }
}

fn nobody_can_be_passed_on() {
    let stand_in = StandIn::new();
    let mut command = stand_in.command("boot --bundle=/b");
    command.uid(65534).gid(65534);
    assert!(stdout(&mut command).starts_with("runsc 2 boot"));
}

fn a_gofer_is_run_by_the_multiplexer_itself() {
    let stand_in = StandIn::new();
    let mut command = Command::new(stand_in.place.link());
    let output = command
        .arg0("runsc-gofer")
        .args(["--log-fd=99", "gofer", "--nonsense"])
        .output();
    let output = output.unwrap();
    assert!(
        !output.status.success() && output.stdout.is_empty(),
        "{output:?}"
    );
}

fn a_multiplexer_that_has_lost_its_runsc_says_so() {
    let stand_in = StandIn::new();
    fs::remove_file(stand_in.place.libexec("runsc")).unwrap();
    let output = stand_in.command("boot").output().unwrap();
    assert_eq!(output.status.code(), Some(128), "{output:?}");
    assert!(
        text(&output.stderr).contains("install it again"),
        "{output:?}"
    );
}

fn other_copies_are_no_multiplexer() {
    let stand_in = StandIn::new();
    let copy = stand_in.place.prefix().join("multiplexer");
    fs::copy(env!("CARGO_BIN_EXE_lisafs-gofer"), &copy).unwrap();
    let output = Command::new(copy).arg("boot").output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

const TRIALS: &[(&str, Test)] = &[
    (
        "what_is_installed_answers_as_the_original_and_goes_without_trace",
        Test::Runsc(what_is_installed_answers_as_the_original_and_goes_without_trace),
    ),
    (
        "a_link_elsewhere_takes_the_place_of_the_first",
        Test::Runsc(a_link_elsewhere_takes_the_place_of_the_first),
    ),
    (
        "what_is_not_ours_is_neither_replaced_nor_removed",
        Test::Runsc(what_is_not_ours_is_neither_replaced_nor_removed),
    ),
    (
        "what_others_could_change_is_refused",
        Test::Runsc(what_others_could_change_is_refused),
    ),
    (
        "what_nobody_could_reach_is_told",
        Test::RootAndRunsc(what_nobody_could_reach_is_told),
    ),
    (
        "further_programs_that_others_could_change_are_refused",
        Test::Runsc(further_programs_that_others_could_change_are_refused),
    ),
    (
        "programs_that_are_no_runsc_are_refused",
        Test::Any(programs_that_are_no_runsc_are_refused),
    ),
    (
        "command_lines_are_passed_on_with_descriptors_and_environment",
        Test::Any(command_lines_are_passed_on_with_descriptors_and_environment),
    ),
    (
        "nobody_can_be_passed_on",
        Test::Root(nobody_can_be_passed_on),
    ),
    (
        "a_gofer_is_run_by_the_multiplexer_itself",
        Test::Any(a_gofer_is_run_by_the_multiplexer_itself),
    ),
    (
        "a_multiplexer_that_has_lost_its_runsc_says_so",
        Test::Any(a_multiplexer_that_has_lost_its_runsc_says_so),
    ),
    (
        "other_copies_are_no_multiplexer",
        Test::Any(other_copies_are_no_multiplexer),
    ),
];

impl Test {
    fn run(&self) -> Result<Completion, Failed> {
        let is_for_root = matches!(self, Test::Root(_) | Test::RootAndRunsc(_));
        if is_for_root && !getuid().is_root() {
            return Ok(Completion::ignored_with(
                "needs root, who can run as nobody",
            ));
        }
        match self {
            Test::Any(test) | Test::Root(test) => test(),
            Test::Runsc(test) | Test::RootAndRunsc(test) => match runsc() {
                Ok(runsc) => test(&runsc),
                Err(why) if getuid().is_root() && std::env::var_os("CI").is_some() => {
                    return Err(why.into());
                }
                Err(why) => return Ok(Completion::ignored_with(why)),
            },
        }
        Ok(Completion::Completed)
    }
}

fn main() -> ExitCode {
    let trials = TRIALS.iter();
    let trials = trials.map(|(name, test)| Trial::ignorable_test(*name, || test.run()));
    let mut arguments = Arguments::from_args();
    // A process that another trial starts has, until it is a program, a copy of the descriptor by which one of
    // these writes a program, which then cannot be started: ETXTBSY.
    arguments.test_threads = Some(1);
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}
