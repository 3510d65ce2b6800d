//! Other servers, and another client.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::fixture::{Fixture, array, gofer, results};

#[test]
fn servers_are_compared_with_the_first() {
    let at = Fixture::new();
    let (one, two) = (gofer("one", ""), gofer("two@same", "--wait park"));
    let arguments = ["--versus", &one, "--versus", &two, "--ops", "fstat,open"];
    let report = at.report(&[&arguments[..], &["--count", "20"]].concat());
    let labels: Vec<_> = array(&report["servers"])
        .iter()
        .map(|server| (server["label"].as_str(), server["placement"].as_str()))
        .collect();
    assert_eq!(
        labels,
        [
            (Some("ours"), Some("free")),
            (Some("one"), Some("free")),
            (Some("two, same"), Some("same"))
        ]
    );
    for one in array(&report["measured"]) {
        let results = array(&one["results"]);
        assert_eq!(results.len(), 3);
        for result in results {
            let ratio = |name: &str| result["ratio_to_first"][name].as_f64().unwrap();
            let wanted = p50(result) / p50(&results[0]);
            assert!((ratio("of_p50") - wanted).abs() < 1e-9);
            assert!(ratio("least_of_slices") <= ratio("of_p50"));
            assert!(ratio("most_of_slices") >= ratio("of_p50"));
            let slice = |of: &serde_json::Value, number: usize| {
                array(&of["slice_p50_ns"])[number].as_f64().unwrap()
            };
            let of_slice = |number| slice(result, number) / slice(&results[0], number);
            assert_eq!(array(&result["slice_p50_ns"]).len(), 2);
            // Of two: what is between them.
            let wanted = (of_slice(0) + of_slice(1)) / 2.0;
            assert!((ratio("median_of_slices") - wanted).abs() < 1e-9);
        }
    }
    assert!(at.left().is_empty());
}

fn p50(result: &serde_json::Value) -> f64 {
    result["latency"]["p50_ns"].as_f64().unwrap()
}

#[test]
fn another_client_is_given_a_connection_to_each_server() {
    let at = Fixture::new();
    let client = at.path("client");
    // Says what it was asked to measure, if its stdin is a socket, and takes longer each time.
    let script = "#!/bin/sh
[ \"$1 $2 $3 $5\" = '--fd 0 --count --ops' ] && [ -S /proc/self/fd/0 ] || exit 3
echo >> COUNTED
took=$(wc -l < COUNTED)
printf '{\"op\":\"%s\",\"count\":%s,\"runs\":%s,\"cpu_ns\":70,' \"$6\" \"$4\" $(($4 + 2))
echo \"\\\"histogram\\\":[[$took,$(($4 - 1))],[1000,1]]}\"
";
    let counted = at.path("counted");
    let script = script.replace("COUNTED", counted.to_str().unwrap());
    fs::write(&client, script).unwrap();
    fs::set_permissions(&client, fs::Permissions::from_mode(0o755)).unwrap();
    let one = gofer("one", "");
    let arguments = [
        "--ops",
        "none",
        "--versus",
        &one,
        "--count",
        "20",
        "--server-waits",
        "--go-client",
    ];
    let arguments = [&arguments[..], &[client.to_str().unwrap()]].concat();
    let report = at.report(&arguments);
    for server in array(&report["servers"]) {
        let go = array(&server["go_client"]);
        let ops: Vec<_> = go.iter().map(|row| row["op"].as_str().unwrap()).collect();
        assert_eq!(ops[..2], ["FStat", "Walk"]);
        // Half of it in each of two slices.
        assert_eq!((&go[0]["count"], &go[0]["runs"]), (&20.into(), &24.into()));
        assert_eq!(go[0]["latency"]["p99.9_ns"], 1000);
        assert_eq!(go[0]["client_cpu_each_ns"], 70);
        assert!(go[0]["server_cpu_each_ns"].is_u64());
    }
    let waits = |server: usize| &report["servers"][server]["go_client"][0]["server_waits"];
    assert!(waits(0)["parks"].is_u64() && waits(1).is_null());
    // The servers in turns.
    let slices = |server: usize| &report["servers"][server]["go_client"][0]["slice_p50_ns"];
    assert_eq!(slices(0), &serde_json::json!([1, 3]));
    assert_eq!(slices(1), &serde_json::json!([2, 4]));
    assert_eq!(report["servers"][0]["go_client"][0]["latency"]["p50_ns"], 3);
}

#[test]
fn the_floor_is_below_each_operation() {
    let at = Fixture::new();
    let ops = "fstat,walk=3,walk-open,getdents=10,pwrite=4k,close=2";
    let report = at.report(&["--ops", ops, "--count", "20", "--floor"]);
    let floor = array(&report["floor"]);
    let below = |op: &str| {
        let row = floor.iter().find(|row| row["op"] == op).unwrap();
        row["name"].as_str().unwrap()
    };
    assert_eq!(below("fstat"), "statx of a descriptor");
    assert_eq!(below("walk=3"), "3 × statx of a name");
    assert_eq!(below("walk-open"), "statx of a name + openat + close");
    assert_eq!(below("getdents=10"), "getdents64 to the end");
    assert_eq!(below("pwrite=4k"), "pwrite");
    assert_eq!(below("close=2"), "2 × close");
    let names: Vec<_> = floor
        .iter()
        .map(|row| row["name"].as_str().unwrap())
        .collect();
    for name in [
        "hand-over and back, spinning, same CPU",
        "hand-over and back, futex, same CPU",
        "CPU time of one that wakes and sleeps, futex, same CPU",
    ] {
        assert!(names.contains(&name), "{names:?}");
    }
    for row in floor {
        assert!(row["latency"]["count"].as_u64().unwrap() > 0, "{row}");
    }
    assert_eq!(results(&report).len(), 1);
    assert!(at.left().is_empty());
}
