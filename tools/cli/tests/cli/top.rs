//! `top`.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Child;

use crate::fixture::{Done, Fixture, done, eventually, lisafs, objects};

/// A gofer that listens, and whose metrics can be asked for. Killed when dropped.
struct Gofer {
    process: Child,
    socket: PathBuf,
    metrics: PathBuf,
}

impl Gofer {
    fn start(at: &Fixture) -> Gofer {
        let (socket, metrics) = (at.path("socket"), at.path("metrics"));
        let mut command = lisafs();
        command.args(["internal-gofer", "serve", "--log", "error", "--listen"]);
        command.arg(&socket).arg("--metrics").arg(&metrics);
        let process = command.arg(at.root()).spawn().unwrap();
        eventually("the gofer listens", || {
            [&socket, &metrics]
                .iter()
                .all(|path| UnixStream::connect(path).is_ok())
        });
        Gofer {
            process,
            socket,
            metrics,
        }
    }

    fn top(&self, global: &[&str], options: &[&str]) -> Done {
        let mut command = lisafs();
        command.args(global).arg("top").args(options);
        done(command.arg("--metrics").arg(&self.metrics))
    }
}

impl Drop for Gofer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn requests_show_while_they_are_made() {
    let at = Fixture::new();
    fs::write(at.served("file"), "some data").unwrap();
    let gofer = Gofer::start(&at);
    let mut command = lisafs();
    command.arg("--connect").arg(&gofer.socket);
    let mut ping = command
        .args(["ping", "--count", "100000000"])
        .spawn()
        .unwrap();
    let options = ["--count", "2", "--interval", "0.2"];
    let mut tables = Vec::new();
    eventually("requests are made", || {
        tables = objects(&gofer.top(&["--json"], &options).success());
        let counted = |table: &serde_json::Value| table["requests"][0]["message"] == "FStat";
        tables.iter().all(counted)
    });
    let text = String::from_utf8(gofer.top(&[], &options).success()).unwrap();
    ping.kill().unwrap();
    ping.wait().unwrap();
    assert_eq!(tables.len(), 2);
    for table in &tables {
        let row = &table["requests"][0];
        assert!(row["per_second"].as_f64().unwrap() > 100.0, "{table}");
        let (p50, p99) = (
            row["p50_s"].as_f64().unwrap(),
            row["p99_s"].as_f64().unwrap(),
        );
        assert!(p50 > 0.0 && p50 <= p99, "{table}");
        assert_eq!(table["connections"], 1.0);
        assert!(
            table["transports_per_second"]["channel"].is_number(),
            "{table}"
        );
    }
    assert_eq!(
        text.matches("message          per second").count(),
        2,
        "{text}"
    );
    assert!(text.contains("\nFStat "), "{text}");
    assert!(!text.contains('\x1b'), "{text}");
}

#[test]
fn what_has_no_metrics_is_told_apart() {
    let at = Fixture::new();
    let gofer = Gofer::start(&at);
    let ask = |path: &PathBuf| {
        let mut command = lisafs();
        done(command.args(["top", "--count", "1", "--metrics"]).arg(path))
    };
    let nobody = ask(&at.path("nobody"));
    assert_eq!(nobody.code, Some(2));
    assert!(
        nobody.err.contains("lisafs-gofer serve --metrics"),
        "{}",
        nobody.err
    );
    let server = ask(&gofer.socket);
    assert_eq!(server.code, Some(2));
    let wrong = gofer.top(&[], &["--interval", "0"]);
    assert_eq!(wrong.code, Some(2));
    assert!(wrong.err.contains("at least 0.01"), "{}", wrong.err);
}
