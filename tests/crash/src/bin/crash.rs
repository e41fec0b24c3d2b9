//! `crash soak MINUTES` kills and restarts two services for so long; `crash service KEY=VALUE...` is an instance of one.

use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["service", ..] => crash::service::main(words[1..].to_vec()),
        ["soak", minutes] if minutes.parse::<u64>().is_ok_and(|minutes| minutes > 0) => {
            crash::soak::main(minutes.parse().unwrap())
        }
        _ => {
            eprintln!("usage: crash soak MINUTES\n       crash service KEY=VALUE...");
            ExitCode::from(2)
        }
    }
}
