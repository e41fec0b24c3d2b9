//! What the program is asked for.

use std::path::PathBuf;

use crate::measure::{MEASURES, PEERS};

/// What it says of itself.
pub(crate) const HELP: &str = "\
Usage: cargo run --release -p bench -- [OPTIONS]

  --quick           everything within ten minutes; what is smaller for it is labelled so
  --only NAME       this measure alone; may be repeated
  --peers           other outboxes and job queues, too: builds and installs them, which takes minutes; exit status 1 where
                    one of them could not be run
  --rounds N        how often each subject and its floor take turns (default 7, with --quick 3)
  --json FILE       writes the results there, too
  --charts FOLDER   draws them there, as SVG
  --flame-graphs FOLDER
                    draws there what the drain, publishing, ingest and processing spend their time with, as SVG, and
                    measures nothing; with --peers, or --only peers, also the processing of those peers that come
                    nearest; needs Linux's perf, and builds inferno at the first time
  --allocations FOLDER
                    counts what the same ask the allocator for, leaves profiles there, and measures nothing; needs
                    --features allocations
  --folder FOLDER   where the servers keep their data (default: beside this program); not in memory
  --list            names the measures
  --help            this text

Each measure starts from a fresh database on a private server, which goes with the program.
";

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Print this and end.
    Text(String),
    /// Measure.
    Run(Arguments),
    /// Be the process of which the memory is measured: drain the outbox behind a URL that has so many rows.
    Drain(String, u64),
    /// Be the emulator of Service Bus, with this topic and its subscription.
    Emulate(String, String),
    /// Be our own subject beside the peers, with this task.
    Compete(Vec<String>),
}

/// How to measure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Arguments {
    /// Scaled down to ten minutes.
    pub(crate) quick: bool,
    /// Measures by name, in the order of [`MEASURES`].
    pub(crate) only: Vec<String>,
    /// Rounds of each comparison.
    pub(crate) rounds: usize,
    /// Where the results go.
    pub(crate) json: Option<PathBuf>,
    /// Where the charts go.
    pub(crate) charts: Option<PathBuf>,
    /// Where flame graphs go, instead of measuring.
    pub(crate) flame_graphs: Option<PathBuf>,
    /// Where profiles of allocations go, instead of measuring.
    pub(crate) allocations: Option<PathBuf>,
    /// Where the servers live.
    pub(crate) folder: Option<PathBuf>,
}

/// The word by which the program starts itself as the emulator.
pub(crate) const EMULATE: &str = "--emulate";

/// The word by which the program starts itself as our own subject beside the peers.
pub(crate) const COMPETE: &str = "--compete";

/// The word by which the program starts itself for the memory of a drain.
pub(crate) const DRAIN: &str = "--drain-and-tell-peak";

impl Asked {
    /// Reads the words after the program's name.
    ///
    /// # Errors
    /// What is wrong with them, as a sentence.
    pub(crate) fn read(words: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut words = words.into_iter();
        let (mut quick, mut peers, mut only, mut rounds) = (false, false, Vec::new(), None);
        let (mut json, mut charts, mut folder) = (None, None, None);
        let (mut flame_graphs, mut allocations) = (None, None);
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
            match word.as_str() {
                "--quick" => quick = true,
                "--peers" => peers = true,
                "--only" => only.push(known(value()?)?),
                "--rounds" => rounds = Some(count(&value()?)?),
                "--json" => json = Some(value()?.into()),
                "--charts" => charts = Some(value()?.into()),
                "--flame-graphs" => flame_graphs = Some(value()?.into()),
                "--allocations" => allocations = Some(value()?.into()),
                "--folder" => folder = Some(value()?.into()),
                "--list" => return Ok(Self::Text(list())),
                "--help" | "-h" => return Ok(Self::Text(HELP.to_owned())),
                DRAIN => {
                    let url = value()?;
                    let rows = value()?.parse().map_err(|error| format!("{DRAIN}: {error}"))?;
                    return Ok(Self::Drain(url, rows));
                }
                COMPETE => return Ok(Self::Compete(words.collect())),
                EMULATE => return Ok(Self::Emulate(value()?, value()?)),
                other => return Err(format!("unknown argument: {other}")),
            }
        }
        // The peers are others' programs, and come only where somebody asks for them.
        let wanted = |name: &str| match name {
            PEERS => peers || only.iter().any(|asked| asked == PEERS),
            _ => only.is_empty() || only.iter().any(|asked| asked == name),
        };
        let only = MEASURES.iter().map(|(name, _)| *name).filter(|name| wanted(name));
        let only = only.map(str::to_owned).collect();
        let rounds = rounds.unwrap_or(if quick { 3 } else { 7 });
        Ok(Self::Run(Arguments { quick, only, rounds, json, charts, flame_graphs, allocations, folder }))
    }
}

fn known(name: String) -> Result<String, String> {
    if MEASURES.iter().any(|(known, _)| *known == name) {
        return Ok(name);
    }
    Err(format!("there is no measure {name}; there are:\n{}", list()))
}

fn count(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|count| *count > 0).ok_or_else(|| format!("not a number of rounds: {text}"))
}

fn list() -> String {
    MEASURES.iter().map(|(name, what)| format!("  {name:<12} {what}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Asked, String> {
        Asked::read(text.split_whitespace().map(str::to_owned))
    }

    fn run(text: &str) -> Arguments {
        match read(text) {
            Ok(Asked::Run(arguments)) => arguments,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn everything_is_measured_unless_told_otherwise() {
        let all = run("");
        assert_eq!((all.quick, all.rounds, all.only.len()), (false, 7, MEASURES.len() - 1));
        assert_eq!(run("--quick").rounds, 3);
        assert_eq!(run("--quick --rounds 9").rounds, 9);
        assert_eq!(run("--json a.json --charts b").json, Some("a.json".into()));
    }

    #[test]
    fn measures_keep_their_order_and_are_known() {
        assert_eq!(run("--only publish --only drain").only, ["drain", "publish"]);
        assert!(read("--only drane").is_err_and(|text| text.contains("drain")));
    }

    #[test]
    fn peers_are_measured_where_somebody_asks_for_them() {
        assert!(!run("--quick").only.contains(&PEERS.to_owned()));
        assert_eq!(run("--peers").only.len(), MEASURES.len());
        assert_eq!(run("--only peers").only, [PEERS]);
        assert_eq!(run("--only drain --peers").only, ["drain", PEERS]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, said) in [
            ("--json", "needs a value"),
            ("--rounds 0", "not a number"),
            ("--rounds many", "not a number"),
            ("--fast", "unknown argument"),
        ] {
            assert!(read(text).is_err_and(|error| error.contains(said)), "{text}");
        }
        assert!(matches!(read("--list"), Ok(Asked::Text(text)) if text.contains("drain")));
    }

    #[test]
    fn the_process_for_the_memory_is_told_what_to_drain() {
        let asked = read(&format!("{DRAIN} postgres://x 12"));
        assert_eq!(asked, Ok(Asked::Drain("postgres://x".to_owned(), 12)));
    }
}
