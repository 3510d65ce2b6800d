//! Text, JSON, SVG.

use std::fs;

use crate::fixture::{Fixture, array, gofer, results};

/// What waiting comes to.
const EVENTS: [&str; 6] = [
    "parks",
    "wakes",
    "elided_wakes",
    "spin_hits",
    "spin_misses",
    "moves",
];

#[test]
fn the_report_for_programs_has_everything() {
    let at = Fixture::new();
    let report = at.report(&["--ops", "fstat", "--count", "10"]);
    let load = &report["load"];
    assert_eq!((&load["threads"], &load["count"]), (&1.into(), &10.into()));
    assert!(load["seconds"].is_null() && load["rate_per_second"].is_null());
    let server = &report["servers"][0];
    assert_eq!(server["label"], "ours");
    assert!(server["is"].as_str().unwrap().starts_with("private gofer"));
    assert_eq!(server["client_waits"], "adaptive");
    assert!(server["start_ns"].as_u64().unwrap() > 0);
    for name in ["peak_kib", "anonymous_kib", "threads"] {
        assert!(server["memory"][name].as_u64().unwrap() > 0, "{name}");
    }
    let result = &results(&report)[0];
    assert_eq!(result["server"], "ours");
    assert!(result["elapsed_ns"].as_u64().unwrap() > 0);
    assert!(result["per_second"].as_f64().unwrap() > 0.0);
    for side in ["client", "server_used"] {
        assert!(result[side]["cpu_ns"].as_u64().unwrap() > 0, "{side}");
        for name in ["voluntary_switches", "involuntary_switches"] {
            assert!(result[side][name].is_u64(), "{side} {name}");
        }
    }
    for name in EVENTS {
        assert!(result["waits"][name].is_u64(), "{name}");
    }
    assert!(result["server_waits"].is_null());
    assert_eq!(array(&report["floor"]).len(), 0);
}

#[test]
fn the_report_for_people_is_markdown() {
    let at = Fixture::new();
    let one = gofer("one", "");
    let arguments = [
        "--ops",
        "fstat,create",
        "--count",
        "10",
        "--floor",
        "--versus",
        &one,
    ];
    let done = at.command(&arguments).output().unwrap();
    let text = String::from_utf8(done.stdout).unwrap();
    for title in [
        "Servers; memory in MiB",
        "The floor, µs",
        "Latency, µs",
        "Latency compared, µs",
        "Cost of an operation; CPU time in µs",
        "Context switches of an operation, voluntary + involuntary",
        "Waits of the client for an operation",
    ] {
        assert!(text.contains(&format!("\n## {title}\n\n| ")), "{text}");
    }
    assert!(!text.contains("mixes") && !text.contains("Idle"), "{text}");
    // As wide as the numbers, which on a busy machine have some digits more.
    for line in text.lines().filter(|line| line.starts_with('|')) {
        assert!(line.chars().count() <= 140, "{line}");
    }
    // All lines of a table have as many cells.
    for table in text.split("\n\n").filter(|part| part.starts_with('|')) {
        let cells: Vec<_> = table
            .lines()
            .map(|line| line.matches('|').count())
            .collect();
        assert!(
            cells.len() >= 3 && cells.iter().all(|count| *count == cells[0]),
            "{table}"
        );
    }
}

#[test]
fn a_server_of_ours_says_how_it_waited() {
    let at = Fixture::new();
    let one = gofer("one", "");
    let arguments = ["--ops", "fstat", "--count", "100", "--server-waits"];
    let done = at
        .command(&[&arguments[..], &["--versus", &one]].concat())
        .output()
        .unwrap();
    let text = String::from_utf8(done.stdout).unwrap();
    let title = "## Waits of the server for an operation";
    assert_eq!(text.matches(title).count(), 1, "{text}");
    let report = at.written();
    let results = results(&report);
    let of = |name: &str| results[0]["server_waits"][name].as_u64().unwrap();
    for name in EVENTS {
        of(name);
    }
    // A reply each, of the measured requests alone. In each of two slices the server may be asked
    // before it has counted the last reply.
    let replies = of("wakes") + of("elided_wakes");
    assert!((98..=102).contains(&replies), "{replies}");
    assert!(results[1]["server_waits"].is_null());
}

#[test]
fn the_picture_is_well_formed_and_says_what_it_shows() {
    let at = Fixture::new();
    let picture = at.path("picture.svg");
    let odd = gofer("<&\">", "");
    let arguments = [
        "--ops",
        "fstat,mkdir",
        "--count",
        "10",
        "--floor",
        "--versus",
        &odd,
    ];
    at.report(&[&arguments[..], &["--plot", picture.to_str().unwrap()]].concat());
    let svg = fs::read_to_string(picture).unwrap();
    let document = roxmltree::Document::parse(&svg).unwrap();
    assert_eq!(document.root_element().tag_name().name(), "svg");
    let texts: Vec<_> = document
        .descendants()
        .filter(|node| node.is_text())
        .filter_map(|node| node.text())
        .map(str::trim)
        .collect();
    for wanted in ["fstat", "mkdir", "ours", "<&\">", "1", "10"] {
        assert!(texts.contains(&wanted), "{wanted}: {texts:?}");
    }
    assert!(
        texts.iter().any(|text| text.starts_with("latency, µs")),
        "{texts:?}"
    );
    // Five percentiles for each operation of each server, and a dot for each server.
    let circles = document
        .descendants()
        .filter(|node| node.tag_name().name() == "circle");
    assert_eq!(circles.count(), 2 * 2 * 5 + 2);
}
