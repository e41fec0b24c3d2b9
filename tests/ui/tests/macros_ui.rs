//! What the macros accept and refuse, and in which words: the programs beside this crate are the specification.

use std::path::{Path, PathBuf};

/// The words of the compiler change from release to release, so they are compared on one.
const PINNED: &str = "1.95";

fn pinned() -> bool {
    let version = std::process::Command::new(std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned()))
        .arg("--version")
        .output()
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap_or_default();
    let same = version.starts_with(&format!("rustc {PINNED}."));
    if !same {
        println!("skipped: diagnostics are pinned to Rust {PINNED}, and this is {version}");
    }
    same
}

#[test]
fn programs_compile_or_fail_in_our_words() {
    if !pinned() {
        return;
    }
    let cases = trybuild::TestCases::new();
    cases.pass("event/pass/*.rs");
    cases.pass("handler/pass/*.rs");
    cases.compile_fail("event/fail/*.rs");
    cases.compile_fail("handler/fail/*.rs");
}

fn programs(kind: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for macro_name in ["event", "handler"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(macro_name).join(kind);
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        found.extend(entries.filter(|path| path.extension().is_some_and(|extension| extension == "rs")));
    }
    found
}

/// Every refusal says what to write instead. The few whose words are the compiler's are listed in `NOT_OURS.md`.
#[test]
fn every_refusal_has_a_sentence_of_our_own() {
    let sentences: Vec<&str> =
        include_str!("../SENTENCES.txt").lines().filter(|line| !line.is_empty()).collect();
    let not_ours = include_str!("../NOT_OURS.md");
    let failing = programs("fail");
    assert!(failing.len() >= 30, "{} failing programs", failing.len());
    assert!(programs("pass").len() >= 12);
    for program in failing {
        let name = program.file_stem().unwrap().to_string_lossy().into_owned();
        let errors = std::fs::read_to_string(program.with_extension("stderr")).unwrap();
        // An error without a code is a macro's; the compiler's own have one, but for the one that is listed.
        let by_macro = errors.starts_with("error: ") && !errors.starts_with("error: future cannot be sent");
        let ours = by_macro || sentences.iter().any(|sentence| errors.contains(sentence));
        assert_eq!(ours, !not_ours.contains(&format!("`{name}`")), "{name}:\n{errors}");
    }
}

#[test]
fn three_mistakes_are_reported_at_once_and_nothing_else() {
    for macro_name in ["event", "handler"] {
        let path = format!("{}/{macro_name}/fail/three_mistakes.stderr", env!("CARGO_MANIFEST_DIR"));
        let errors = std::fs::read_to_string(path).unwrap();
        assert_eq!(errors.matches("error: ").count(), 3, "{errors}");
        assert_eq!(errors.matches("error[").count(), 0, "{errors}");
    }
}
