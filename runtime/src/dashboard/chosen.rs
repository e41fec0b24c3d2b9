//! What a form about rows says.

use super::page::Refusal;
use crate::admin::Table;

/// Rows that one form changes at most.
const MOST: usize = 500;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Requeue,
    Discard,
}

impl Action {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Requeue => "requeue",
            Self::Discard => "discard",
        }
    }
}

/// A form's fields: rows by their places in the table, what is to be done, and why.
#[derive(Debug)]
pub(super) struct Chosen {
    pub(super) action: Action,
    pub(super) seqs: Vec<i64>,
    pub(super) reason: String,
    pub(super) form: String,
}

impl Chosen {
    /// # Errors
    /// When it is no form of ours.
    pub(super) fn of(fields: Vec<(String, String)>) -> Result<Self, Refusal> {
        let (mut action, mut seqs) = (None, Vec::new());
        let (mut reason, mut form) = (String::new(), String::new());
        for (name, value) in fields {
            match name.as_str() {
                "action" => {
                    action =
                        [Action::Requeue, Action::Discard].into_iter().find(|action| action.name() == value);
                }
                "seq" => {
                    let seq = value.parse().map_err(|_| Refusal::Senseless("This is no row."))?;
                    seqs.push(seq);
                }
                "reason" => reason = value,
                "form" => form = value,
                _ => {}
            }
        }
        let action = action.ok_or(Refusal::Senseless("It isn't said what is to be done."))?;
        if seqs.len() > MOST {
            return Err(Refusal::Senseless(
                "These are too many rows for one form; the command line takes any number.",
            ));
        }
        Ok(Self { action, seqs, reason, form })
    }
}

/// The table that a path names.
///
/// # Errors
/// When it is none.
pub(super) fn table(name: &str) -> Result<Table, Refusal> {
    [Table::Outbox, Table::Inbox]
        .into_iter()
        .find(|table| table.name() == name)
        .ok_or(Refusal::Senseless("There is no such table."))
}
