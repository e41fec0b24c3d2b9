//! What the launcher gives: a command, and options with values.

use std::collections::HashMap;

use crate::Failure;

pub(crate) struct Arguments {
    pub(crate) command: String,
    options: HashMap<String, String>,
}

impl Arguments {
    pub(crate) fn read() -> Result<Self, Failure> {
        let mut words = std::env::args().skip(1);
        let command = words.next().ok_or("this is started by `cargo run --example two_services`")?;
        let mut options = HashMap::new();
        while let Some(option) = words.next() {
            let value = words.next().ok_or_else(|| format!("{option} needs a value"))?;
            options.insert(option, value);
        }
        Ok(Self { command, options })
    }

    /// The value of `--name`.
    pub(crate) fn get(&self, name: &str) -> Result<&str, Failure> {
        let value = self.options.get(&format!("--{name}"));
        Ok(value.ok_or_else(|| format!("{} needs --{name}", self.command))?)
    }
}
