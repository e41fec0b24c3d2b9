//! Why a command ended without having done what it was told, and the exit status that says so.

use std::process::ExitCode;

use distributed_events::StorageError;

/// Texts say what to do next. None repeats a password or a key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Failure {
    /// The database or the broker refused or could not be reached, or somebody said no. Exit status 1.
    #[error("{0}")]
    Failed(String),
    /// The call or the configuration is wrong: nothing was tried. Exit status 2.
    #[error("{0}")]
    Usage(String),
    /// What was looked at is there, but not as it should be. Exit status 3.
    #[error("{0}")]
    Differs(String),
    /// Nobody reads the output any more, as after `| head`. Exit status 0.
    #[error("nobody reads the output")]
    Unread,
    /// The relay stopped itself, as its configuration says it should. Exit status 4.
    #[error("{0}")]
    Stopped(String),
}

impl Failure {
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Unread => 0,
            Self::Failed(_) => 1,
            Self::Usage(_) => 2,
            Self::Differs(_) => 3,
            Self::Stopped(_) => 4,
        })
    }
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        Self::Failed(match error {
            // The library speaks to the one who writes code.
            StorageError::MissingTables { database } => format!(
                "the tables of distributed-events are missing in {database}: create them with `distributed-events migrate`"
            ),
            other => other.to_string(),
        })
    }
}

/// What can't be written to the standard output.
impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Self::Unread;
        }
        Self::Failed(format!("the output can't be written: {error}"))
    }
}

/// An error with its causes: an HTTP client's "client error" alone says nothing.
#[cfg(any(feature = "cli-otel", feature = "cli-entra"))]
pub(crate) fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
