//! Open loops, idleness, load from elsewhere.

use std::time::Instant;

use lisafs_patience::PATIENCE;

use crate::fixture::{Fixture, check_latency, results};

#[test]
fn an_open_loop_tells_latency_from_service() {
    let at = Fixture::new();
    let report = at.report(&["--ops", "fstat", "--rate", "1000", "--seconds", "0.2"]);
    assert_eq!(report["load"]["rate_per_second"], 1000.0);
    let result = &results(&report)[0];
    let sent = result["latency"]["count"].as_u64().unwrap();
    let unsent = result["unsent"].as_u64().unwrap();
    assert_eq!(sent + unsent, 200);
    check_latency(&result["latency"]);
    check_latency(&result["service"]);
    assert_eq!(result["service"]["count"], sent);
    // What counts from when it should have been sent is never less.
    assert!(result["latency"]["max_ns"].as_u64() >= result["service"]["max_ns"].as_u64());
    assert!(result["latency"]["mean_ns"].as_f64() >= result["service"]["mean_ns"].as_f64());
}

#[test]
fn a_closed_loop_has_no_service_time() {
    let at = Fixture::new();
    let report = at.report(&["--ops", "fstat", "--count", "10"]);
    assert!(results(&report)[0]["service"].is_null());
}

#[test]
fn parked_connections_that_are_idle_cost_nothing() {
    let at = Fixture::new();
    let deadline = Instant::now() + PATIENCE;
    // On a machine that does other things, they may not all be parked when the first measurement begins. Each
    // is long enough for somebody who looks now and again.
    loop {
        let report = at.report(&[
            "--ops",
            "none",
            "--idle",
            "3",
            "--channels",
            "2",
            "--seconds",
            "3",
        ]);
        assert_eq!(report["measured"], serde_json::json!([]));
        let idle = &report["servers"][0]["idle"];
        assert_eq!(idle["connections"], 3);
        assert_eq!(idle["channels"], 6);
        assert!(idle["memory"]["threads"].as_u64().unwrap() >= 6);
        let used = &idle["used"];
        if used["voluntary_switches"] == 0 && used["cpu_ns"] == 0 {
            break;
        }
        assert!(Instant::now() < deadline, "{used}");
    }
}

#[test]
fn busy_cpus_are_no_obstacle() {
    let at = Fixture::new();
    let report = at.report(&["--ops", "fstat", "--count", "10", "--busy", "1"]);
    assert_eq!(report["load"]["busy_loops_per_cpu"], 1);
    assert_eq!(results(&report)[0]["latency"]["count"], 10);
}
