//! The manual names tests that there are.

use std::path::Path;

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
