//! The manual names tests that there are.

use std::path::Path;

use distributed_events::telemetry::names::{METRICS, MetricKind};

const TELEMETRY: &str = include_str!("../../runtime/src/manual/telemetry.md");
const README: &str = include_str!("../../README.md");
const TESTING: &str = include_str!("../../runtime/src/manual/testing.md");
const GUARANTEES: &str = include_str!("../../runtime/src/manual/guarantees.md");

/// All test sources as one text.
fn sources(folder: &Path, text: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&std::fs::read_to_string(path).unwrap());
        }
    }
}

/// There is no way to ask for less, by accident or otherwise.
#[test]
fn nothing_in_the_library_replaces_the_check_of_certificates() {
    let mut text = String::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../runtime/src"), &mut text);
    assert!(text.contains("with_root_certificates"), "the library's sources are elsewhere");
    for other in ["dangerous", "ServerCertVerifier", "danger_accept", "PgSslMode", "MySqlSslMode"] {
        assert!(!text.contains(other), "{other}");
    }
}

#[test]
fn every_guarantee_names_tests_that_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut text = String::new();
    sources(&root.join("src"), &mut text);
    sources(&root.join("tests"), &mut text);
    sources(&root.join("simulation/tests"), &mut text);
    // What stands in backticks and reads like a test: words with underscores.
    let named = GUARANTEES.split('`').skip(1).step_by(2);
    let named: Vec<_> = named
        .filter(|name| {
            name.matches('_').count() >= 3 && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        })
        .collect();
    assert!(named.len() > 40, "{named:?}");
    for name in named {
        let defined = [format!("fn {name}("), format!("fn {name}<")].iter().any(|it| text.contains(it));
        assert!(defined, "the guarantees name `{name}`, and there is no such test");
    }
    let rows = GUARANTEES.lines().filter(|line| line.starts_with("| ")).skip(1);
    for row in rows.filter(|row| !row.contains("|---|")) {
        let shown = row.trim_end_matches([' ', '|']).rsplit('|').next().unwrap_or_default();
        assert!(shown.contains('`'), "nothing shows: {row}");
    }
}

/// The chapter's code is compiled and run, with lines that no reader sees; the README's can't be, because those would show.
#[test]
fn the_readme_tests_a_service_as_the_chapter_does() {
    let shown: Vec<_> = TESTING.lines().filter(|line| !line.starts_with("# ")).collect();
    let shown = shown.join("\n");
    let section = README.split("\n## ").find(|section| section.starts_with("Testing your service\n"));
    let samples: Vec<_> = section.unwrap().split("```rust,ignore\n").skip(1).collect();
    assert_eq!(samples.len(), 2);
    for sample in samples {
        let code = sample.split("\n```").next().unwrap();
        assert!(
            shown.contains(&format!("```rust,standalone_crate\n{code}\n```")),
            "the chapter on testing has not\n{code}"
        );
    }
}

/// What a table of the chapter on telemetry has in its first column, in backticks.
fn listed(heading: &str) -> Vec<&'static str> {
    let table = TELEMETRY.split(heading).nth(1).unwrap();
    let rows = table.lines().skip_while(|line| line.is_empty()).take_while(|line| line.starts_with('|'));
    rows.skip(1).flat_map(|row| row.split('|').nth(1).unwrap().split('`').skip(1).step_by(2)).collect()
}

#[test]
fn the_chapter_on_telemetry_lists_every_metric_and_nothing_else() {
    let metrics: Vec<_> = METRICS.iter().map(|metric| metric.name).collect();
    let mut listed = listed("| metric | kind, unit | what | by |");
    listed.sort_unstable();
    let mut sorted = metrics.clone();
    sorted.sort_unstable();
    assert_eq!(listed, sorted);
    for metric in METRICS {
        let row = TELEMETRY.lines().find(|line| line.starts_with(&format!("| `{}` |", metric.name))).unwrap();
        let kind = row.split('|').nth(2).unwrap().trim();
        let expected = match metric.kind {
            MetricKind::Histogram => "histogram",
            MetricKind::Gauge => "gauge",
            _ => "counter",
        };
        let unit = if metric.unit == "s" { ", s" } else { "" };
        assert_eq!(kind, format!("{expected}{unit}"), "{}", metric.name);
    }
}

#[test]
fn the_chapter_on_telemetry_lists_every_attribute_of_a_span() {
    let source = include_str!("../../runtime/src/telemetry/names.rs");
    let names: Vec<_> = source
        .lines()
        .filter_map(|line| line.strip_prefix("pub const ")?.split_once(": &str = \"")?.1.strip_suffix("\";"))
        .filter(|name| name.contains('.') && !name.starts_with("otel."))
        .collect();
    assert!(names.len() > 20, "{names:?}");
    let listed = listed("| attribute | on | what |");
    for name in &listed {
        assert!(names.contains(name), "there is no {name}");
    }
    // Of metrics alone.
    let others = ["distributed_events.state", "distributed_events.incident.kind", "distributed_events.table"];
    for name in names {
        assert!(listed.contains(&name) || others.contains(&name), "{name} is not listed");
    }
}
