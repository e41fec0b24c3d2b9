//! The container file and the systemd unit of `examples/relay_service`: no image is built here, and nothing in them is unknown.

use std::path::Path;

use crate::program::Program;

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/relay_service");
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Instructions with their arguments, without comments.
fn instructions(file: &str) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(format!("{EXAMPLE}/{file}")).unwrap().replace("\\\n", " ");
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .filter_map(|line| line.split_once([' ', '=']))
        .map(|(name, rest)| (name.into(), rest.into()))
        .collect()
}

fn of<'a>(all: &'a [(String, String)], name: &str) -> Vec<&'a str> {
    all.iter().filter(|(found, _)| found == name).map(|(_, rest)| rest.as_str()).collect()
}

fn manifest(folder: &str) -> toml::Table {
    std::fs::read_to_string(format!("{ROOT}/{folder}/Cargo.toml")).unwrap().parse().unwrap()
}

/// The binary knows these arguments.
fn assert_known(arguments: &[&str]) {
    let program = Program::without_tables();
    let said = program.run(&[arguments, &["--help"]].concat());
    assert_eq!(said.status, 0, "{arguments:?}: {}", said.error);
}

/// What follows a word among others.
fn after<'a>(text: &'a str, word: &str) -> &'a str {
    let mut words = text.split_whitespace().skip_while(|found| *found != word).skip(1);
    words.next().unwrap_or_else(|| panic!("no {word} in {text}"))
}

#[test]
fn the_container_file_names_what_there_is() {
    let all = instructions("Containerfile");
    let known = ["FROM", "WORKDIR", "COPY", "RUN", "USER", "ENTRYPOINT", "CMD"];
    assert!(all.iter().all(|(name, _)| known.contains(&name.as_str())), "{all:?}");
    let rust = manifest("")["workspace"]["package"]["rust-version"].as_str().unwrap().to_owned();
    let bases = of(&all, "FROM");
    assert!(bases[0].contains(&format!("/rust:{rust}-")) && bases[0].ends_with(" AS build"), "{bases:?}");

    let runs = of(&all, "RUN");
    let install = runs.iter().find(|run| run.starts_with("cargo install ")).unwrap();
    let package = manifest(after(install, "--path"));
    let features = package["features"].as_table().unwrap();
    for feature in after(install, "--features").split(',') {
        assert!(features.contains_key(feature), "there is no feature {feature}");
    }
    let binary = package["bin"][0]["name"].as_str().unwrap();
    let built = format!("{}/bin/{binary}", after(install, "--root"));
    let mut places = Vec::new();
    for copy in of(&all, "COPY") {
        let words: Vec<_> = copy.split_whitespace().collect();
        match words.as_slice() {
            [source, _] => assert!(Path::new(ROOT).join(source).exists(), "{copy}"),
            ["--from=build", source, place] => {
                assert_eq!(*source, built, "{copy}");
                places.push(format!("{place}{binary}"));
            }
            _ => panic!("{copy}"),
        }
    }
    let words = |text: &str| serde_json::from_str::<Vec<String>>(text).unwrap();
    assert_eq!(words(of(&all, "ENTRYPOINT")[0]), places);
    let arguments = words(of(&all, "CMD")[0]);
    assert_known(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(of(&all, "USER").iter().all(|user| *user != "root" && *user != "0"), "{all:?}");
}

#[test]
fn the_unit_of_systemd_starts_what_there_is() {
    let all = instructions("distributed-events-relay.service");
    let start: Vec<_> = of(&all, "ExecStart")[0].split_whitespace().collect();
    assert!(start[0].ends_with("/distributed-events"), "{start:?}");
    assert_known(&start[1..]);
    // The exit statuses that `--help` explains.
    let help = Program::without_tables().ok(&["--help"]);
    for status in of(&all, "RestartPreventExitStatus")[0].split_whitespace() {
        assert!(help.contains(&format!("\n  {status}  ")), "{status}: {help}");
    }
}
