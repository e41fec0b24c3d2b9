//! What can be said on the command line.

mod dashboard;
mod rows;
mod topology;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

pub(crate) use dashboard::Dashboard;
pub(crate) use rows::{
    Change, InboxCommand, List, OutboxCommand, Replay, Requeue, Resend, Selection, Show, Wanted,
};
pub(crate) use topology::Topology;

use crate::database::Kind;
use crate::when::{interval, span};

/// Operates the outbox and inbox tables of any application: see what waits and why, mend it, relay it.
#[derive(Debug, Parser)]
#[command(name = "distributed-events", version, arg_required_else_help = true, after_help = AFTER, max_term_width = 110)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) general: General,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const AFTER: &str = "\
Exit status:
  0  done
  1  the database or the broker refused or can't be reached, or the answer was no
  2  the call or the configuration is wrong
  3  it was looked at and is not as it should be (`topology --check`), or not there (`show`, ids)
  4  the relay stopped itself, as `[errors]` of its configuration says";

/// What every command takes.
#[derive(Args, Clone, Debug)]
pub(crate) struct General {
    /// The database: postgres://, mysql:// (or mariadb://), or sqlite:PATH.
    ///
    /// If not said, `[database]` of the configuration names it, else the environment variable DATABASE_URL. Both keep a
    /// password off the list of processes.
    #[arg(long, global = true, value_name = "URL", help_heading = "General")]
    pub(crate) database_url: Option<String>,
    /// A configuration file (TOML).
    #[arg(long, global = true, value_name = "FILE", help_heading = "General")]
    pub(crate) config: Option<PathBuf>,
    /// One line of JSON instead of text, for scripts.
    ///
    /// Every command has it. What it looks like is in the chapter on operating of the documentation ("What --json prints").
    /// Errors are text in any case, on the standard error.
    #[arg(long, global = true, help_heading = "General")]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Creates the library's tables, or brings them up to date; or prints the SQL for a tool of your own.
    Migrate(Migrate),
    /// What waits, what is dead, how fast it goes, and who works on it.
    Status(Status),
    /// Events that this database's application has published.
    #[command(subcommand)]
    Outbox(OutboxCommand),
    /// Events that this database's application has received.
    #[command(subcommand)]
    Inbox(InboxCommand),
    /// Deletes what retention does not keep any more, as a running bus or relay does by itself.
    Purge(Purge),
    /// Runs the relays of the configuration until Ctrl-C or SIGTERM.
    Relay(Relay),
    /// Topics and subscriptions of the configuration: shown, as Bicep, created, or checked.
    Topology(Topology),
    /// Serves the dashboard of a database, until Ctrl-C or SIGTERM.
    Dashboard(Dashboard),
}

#[derive(Args, Debug)]
pub(crate) struct Migrate {
    /// Prints the SQL instead of running it.
    #[arg(long)]
    pub(crate) print: bool,
    /// For which kind of database to print, where no URL says it.
    #[arg(long, value_name = "KIND", requires = "print")]
    pub(crate) dialect: Option<Kind>,
    /// Creates the file of a SQLite database where there is none.
    #[arg(long, conflicts_with = "print")]
    pub(crate) create: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Status {
    /// Looks again and again, until Ctrl-C.
    #[arg(long)]
    pub(crate) watch: bool,
    /// How often.
    #[arg(long, value_name = "SPAN", value_parser = interval, default_value = "2s", requires = "watch")]
    pub(crate) interval: Duration,
}

/// What is kept for how long; else what the configuration says, else 7 days, 7 days and 30 days.
#[derive(Args, Debug)]
pub(crate) struct Purge {
    /// Sent rows of the outbox.
    #[arg(long, value_name = "SPAN", value_parser = span)]
    pub(crate) keep_sent: Option<Duration>,
    /// Bodies of processed rows of the inbox.
    #[arg(long, value_name = "SPAN", value_parser = span)]
    pub(crate) keep_bodies: Option<Duration>,
    /// Keys of processed rows of the inbox, by which events that are sent again are known.
    #[arg(long, value_name = "SPAN", value_parser = span)]
    pub(crate) keep_keys: Option<Duration>,
    /// Also when keys go while their events can still be sent again.
    #[arg(long)]
    pub(crate) force: bool,
    /// Without asking.
    #[arg(long)]
    pub(crate) yes: bool,
}

/// Everything is in the configuration: see the README's chapter "Command line".
#[derive(Args, Debug)]
pub(crate) struct Relay {
    /// The outbox alone, where the configuration has both.
    #[arg(long, conflicts_with = "inbox_only")]
    pub(crate) outbox_only: bool,
    /// The inbox alone.
    #[arg(long)]
    pub(crate) inbox_only: bool,
    /// Reads the configuration, says whether it is right, and ends.
    #[arg(long)]
    pub(crate) check: bool,
}
