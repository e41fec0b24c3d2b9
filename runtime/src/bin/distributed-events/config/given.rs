//! A secret, or where it is: read when it is needed, and shown never.

use std::fmt;
use std::path::PathBuf;

/// A text that may be a secret, where the configuration says where it is.
#[derive(Clone)]
pub(crate) struct Given {
    pub(super) place: Place,
    /// File, line and key, for what is told of it.
    pub(super) at: String,
}

#[derive(Clone)]
pub(super) enum Place {
    Text(String),
    Variable(String),
    File(PathBuf),
}

impl Given {
    /// The text itself.
    ///
    /// # Errors
    /// When it isn't where it should be; told with the line that says so.
    pub(crate) fn text(&self) -> Result<String, String> {
        let text = match &self.place {
            Place::Text(text) => text.clone(),
            Place::Variable(name) => std::env::var(name).map_err(|_| {
                // Who mistakes the key writes the secret itself there.
                if is_name(name) {
                    format!("{}: the environment variable {name} is not set, or no text", self.at)
                } else {
                    format!(
                        "{}: this is no name of an environment variable: name the one that has the text",
                        self.at
                    )
                }
            })?,
            Place::File(path) => std::fs::read_to_string(path).map_err(|error| {
                let text = path.to_string_lossy();
                if text.contains("://") || text.contains(';') {
                    format!("{}: this is no path: name the file that has the text", self.at)
                } else {
                    format!("{}: {text} can't be read: {error}", self.at)
                }
            })?,
        };
        // Files of secrets end with a line feed that is no part of them.
        let text = text.trim().to_owned();
        if text.is_empty() { Err(format!("{}: it is empty", self.at)) } else { Ok(text) }
    }

    /// Where it was said, for what is told of it.
    pub(crate) fn at(&self) -> &str {
        &self.at
    }
}

fn is_name(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !text.bytes().next().is_some_and(|first| first.is_ascii_digit())
}

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Given({})", self.at)
    }
}
