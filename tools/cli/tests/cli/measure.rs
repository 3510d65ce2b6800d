//! `ping`.

use std::fs;

use crate::fixture::Fixture;

#[test]
fn answers_are_measured_over_both_communicators() {
    let at = Fixture::new();
    fs::create_dir(at.served("dir")).unwrap();
    fs::write(at.served("dir/file"), "").unwrap();
    for op in ["fstat", "walk", "open"] {
        for (channels, communicator) in [("1", "a channel"), ("0", "the socket")] {
            let arguments = ["--channels", channels, "ping", "--op", op, "-c", "50"];
            let ping = at.json(&[&arguments[..], &["dir/file"]].concat()).remove(0);
            assert_eq!(ping["op"], op);
            assert_eq!(ping["count"], 50);
            assert_eq!(ping["communicator"], communicator);
            assert_eq!(ping["wait"], "adaptive");
            let nanoseconds = |key: &str| ping[key].as_f64().unwrap();
            assert!(nanoseconds("min_ns") > 0.0);
            assert!(nanoseconds("p50_ns") >= nanoseconds("min_ns"));
            assert!(nanoseconds("p99_ns") >= nanoseconds("p50_ns"));
            assert!(nanoseconds("max_ns") >= nanoseconds("mean_ns"));
            assert!(nanoseconds("cpu_s") <= 60.0);
            let waits = ping["channels"].as_array().unwrap();
            assert_eq!(waits.len().to_string(), channels);
            for waits in waits {
                let given = ["wakes", "elided_wakes"].map(|key| waits[key].as_u64().unwrap());
                assert!(given.iter().sum::<u64>() >= 50);
                let over = ["parks", "spin_hits"].map(|key| waits[key].as_u64().unwrap());
                assert!(over.iter().sum::<u64>() >= 50);
            }
        }
    }
}

#[test]
fn measurements_are_for_people_too() {
    let at = Fixture::new();
    fs::write(at.served("file"), "").unwrap();
    let text = at.text(&["--wait", "spin=5", "ping", "-c", "20", "--op", "walk"]);
    assert!(
        text.starts_with("20 walk over a channel, wait spin=5: p50 "),
        "{text}"
    );
    assert!(text.contains("CPU time of this process"), "{text}");
    assert!(text.contains("spin misses"), "{text}");
}

#[test]
fn there_has_to_be_something_to_walk_to() {
    let at = Fixture::new();
    at.run(&["ping", "--op", "walk"])
        .says_no("lisafs: /: the root is empty: name a file\n");
    at.run(&["ping", "--op", "walk", ".."])
        .says_no("lisafs: ..: the root is not walked to: name another file\n");
    at.run(&["ping", "missing"])
        .says_no("lisafs: missing: No such file or directory\n");
}
