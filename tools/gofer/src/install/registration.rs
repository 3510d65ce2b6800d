//! How to have containers started by what was installed.
#![forbid(unsafe_code)]

use std::fmt::{self, Display, Formatter};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

use super::source::Source;
use super::trust;

/// The name under which the runtime is registered.
const NAME: &str = "runsc-lisafs";

/// The lines that register a runsc, as text for its user.
#[derive(Debug)]
pub(crate) struct Registration {
    runsc: PathBuf,
    version: String,
    /// Whether its sandboxes use their gofers only if they are told to.
    directfs: bool,
    temporary: bool,
    /// A directory that sandboxes have to search, but may not if they are nobody's.
    hidden: Option<PathBuf>,
}

impl Registration {
    /// For a runsc that starts others by the path `entry`.
    pub(super) fn of(runsc: &Path, entry: &Path, source: &Source) -> Registration {
        // Those of other users are theirs.
        let hidden = [runsc, entry]
            .into_iter()
            .filter(|_| geteuid().is_root())
            .find_map(trust::hidden);
        Registration {
            runsc: runsc.to_owned(),
            version: source.version().to_owned(),
            directfs: source.has_directfs(),
            temporary: trust::is_temporary(runsc),
            // Without the slashes that links are padded with.
            hidden: hidden.map(|path| path.components().collect()),
        }
    }
}

impl Display for Registration {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let runsc = self.runsc.display();
        let (flag, arguments, config) = if self.directfs {
            (
                " --directfs=false",
                r#", "runtimeArgs": ["--directfs=false"]"#,
                "[runsc_config]\n  directfs = \"false\"\n",
            )
        } else {
            ("", "", "")
        };
        writeln!(f, "installed {}, with {}", runsc, self.version)?;
        if self.temporary {
            writeln!(
                f,
                "\nThis place is for temporary files. It will do for a trial; should it be cleaned \
                 up, though,\nanybody could put other programs there: uninstall before."
            )?;
        }
        if let Some(hidden) = &self.hidden {
            writeln!(
                f,
                "\nNot everybody may search {}. runsc has most sandboxes run as nobody, and those cannot \
                 be\nstarted from here: permit it (chmod o+x), or choose another place.",
                hidden.display()
            )?;
        }
        writeln!(
            f,
            "\n# directly\n{runsc}{flag} --network=none do sh -c 'echo /*'\n\
             \n# Docker: merge into /etc/docker/daemon.json, restart docker, docker run --runtime={NAME}\n\
             {{\"runtimes\": {{\"{NAME}\": {{\"path\": \"{runsc}\"{arguments}}}}}}}\n\
             \n# containerd: /etc/containerd/{NAME}.toml\n\
             binary_name = \"{runsc}\"\n{config}\
             \n# containerd: append to /etc/containerd/config.toml if its first line says version = 2\n{}\
             \n# containerd: or this if it says version = 3\n{}\
             \n# Kubernetes: kubectl apply, then runtimeClassName: {NAME}\n\
             apiVersion: node.k8s.io/v1\nkind: RuntimeClass\nmetadata:\n  name: {NAME}\nhandler: {NAME}",
            Containerd("\"io.containerd.grpc.v1.cri\""),
            Containerd("'io.containerd.cri.v1.runtime'"),
        )
    }
}

/// The lines of containerd's configuration, for its plugin of this name.
struct Containerd<'a>(&'a str);

impl Display for Containerd<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let runtime = format!("plugins.{}.containerd.runtimes.{NAME}", self.0);
        writeln!(
            f,
            "[{runtime}]\n  runtime_type = \"io.containerd.runsc.v1\"\n\
             [{runtime}.options]\n  TypeUrl = \"io.containerd.runsc.v1.options\"\n  \
             ConfigPath = \"/etc/containerd/{NAME}.toml\""
        )
    }
}

#[cfg(test)]
mod tests {
    use super::Registration;

    #[test]
    fn directfs_is_switched_off_where_there_is_one() {
        for directfs in [false, true] {
            let text = Registration {
                runsc: "/x/bin/runsc-lisafs".into(),
                version: "runsc version 1".to_owned(),
                directfs,
                temporary: false,
                hidden: None,
            }
            .to_string();
            assert_eq!(
                text.matches("directfs").count(),
                if directfs { 3 } else { 0 },
                "{text}"
            );
            assert_eq!(text.matches("/x/bin/runsc-lisafs").count(), 4, "{text}");
        }
    }
}
