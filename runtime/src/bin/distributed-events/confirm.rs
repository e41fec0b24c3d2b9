//! Asking before something that can't be taken back.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use crate::failure::Failure;

/// Asks, unless `--yes` was said.
///
/// # Errors
/// When the answer is no, and when there is nobody to ask.
pub(crate) fn confirm(question: &str, yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure::Usage(format!(
            "{question} There is no terminal to ask on: say --yes if this is wanted. Nothing was done."
        )));
    }
    let mut output = std::io::stderr();
    write!(output, "{question} [y/N] ").and_then(|()| output.flush())?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::Failed("nothing was done".to_owned())),
    }
}
