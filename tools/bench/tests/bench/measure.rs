//! Operations and mixes.

use crate::fixture::{Fixture, array, check_latency, results};

#[test]
fn every_operation_is_measured() {
    let at = Fixture::new();
    let report = at.report(&["--ops", "all", "--count", "6", "--channels", "1"]);
    let measured = array(&report["measured"]);
    assert!(measured.len() >= 40, "{}", measured.len());
    for one in measured {
        let work = &one["work"];
        let results = array(&one["results"]);
        assert_eq!(results.len(), 1, "{work}");
        assert_eq!(results[0]["latency"]["count"], 6, "{work}");
        check_latency(&results[0]["latency"]);
        // All of it went over the channel: the warm-up is not counted.
        let of = |name: &str| results[0]["waits"][name].as_u64().unwrap();
        let handed_over = of("wakes") + of("elided_wakes");
        let requests = one["requests_each"].as_u64().unwrap_or(1);
        assert!(handed_over >= 6 * requests, "{work}: {handed_over}");
    }
    assert_eq!(report["refused"], serde_json::json!([]));
    assert!(at.left().is_empty(), "{:?}", at.left());
}

#[test]
fn the_socket_is_measured_where_there_are_no_channels() {
    let at = Fixture::new();
    let report = at.report(&["--ops", "fstat,pread=1m", "--count", "6", "--channels", "0"]);
    for one in array(&report["measured"]) {
        let result = &one["results"][0];
        assert_eq!(result["latency"]["count"], 6);
        assert_eq!(result["waits"]["wakes"], 0);
        assert_eq!(result["waits"]["elided_wakes"], 0);
    }
}

#[test]
fn mixes_have_their_proportions() {
    for (mix, walks, creates) in [
        ("exclusive", 78, 21),
        ("shared", 26, 7),
        ("readonly", 144, 0),
    ] {
        let at = Fixture::new();
        // Twice the deck, in two slices, each behind a warm-up that deals some of it as well.
        let report = at.report(&["--mix", mix, "--count", "4000"]);
        assert_eq!(report["measured"][0]["work"], format!("mix {mix}"));
        let result = &results(&report)[0];
        assert_eq!(result["latency"]["count"], 4000);
        let of = |part: &str| result["parts"][part]["count"].as_u64().unwrap_or(0);
        assert_eq!(
            (of("walk"), of("create")),
            (20 * walks, 20 * creates),
            "{mix}"
        );
        assert!(at.left().is_empty());
    }
}

#[test]
fn threads_share_the_count() {
    let at = Fixture::new();
    let arguments = ["--threads", "3", "--channels", "2", "--count", "60"];
    let report =
        at.report(&[&arguments[..], &["--ops", "create,mkdir,rename,getdents=5"]].concat());
    for one in array(&report["measured"]) {
        assert_eq!(one["results"][0]["latency"]["count"], 60, "{one}");
    }
    assert_eq!(report["servers"][0]["channels"], 2);
}

#[test]
fn ways_to_wait_and_placements_are_measured_side_by_side() {
    let at = Fixture::new();
    let arguments = [
        "--wait",
        "park,spin=20",
        "--cpus",
        "free,same",
        "--ops",
        "fstat",
    ];
    let report = at.report(&[&arguments[..], &["--count", "20"]].concat());
    let labels: Vec<_> = array(&report["servers"])
        .iter()
        .map(|server| server["label"].as_str().unwrap())
        .collect();
    assert_eq!(
        labels,
        [
            "ours, park, free",
            "ours, spin=20, free",
            "ours, park, same",
            "ours, spin=20, same"
        ]
    );
    let results = results(&report);
    assert_eq!(results.len(), 4);
    // Nobody spins on a single CPU; a hit can be the first look.
    assert_eq!(results[3]["waits"]["spin_misses"], 0);
}
