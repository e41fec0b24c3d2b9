//! Processors that are kept awake, for a comparison of two sides that sleep at different times.
//!
//! Waking a processor takes long, above all a virtual one. A floor of one task lets the processors sleep at each round trip;
//! a subject has threads that keep them awake, and would be measured beside that.

use std::process::Stdio;

use tokio::process::{Child, Command};

use crate::Result;

/// A system call each time, after which a kernel that preempts lazily gives the processor to whoever waits for it, and not
/// only at its next tick; and a spinner ends with its parent, even where that was killed.
const SPIN: &str = "while kill -0 \"$PPID\" 2>/dev/null; do :; done";

/// Processes that have what nobody else wants of the processors (`SCHED_IDLE`), until they are dropped: one for each but one,
/// since what waits for the disk is woken late where none is free.
#[derive(Debug)]
pub(crate) struct Awake {
    _spinning: Vec<Child>,
}

impl Awake {
    /// Keeps them awake from now on.
    pub(crate) fn keep() -> Result<Self> {
        let spin = || {
            Command::new("chrt")
                .args(["--idle", "0", "sh", "-c", SPIN])
                .stdin(Stdio::null())
                .kill_on_drop(true)
                .spawn()
                .map_err(|error| {
                    format!("chrt (util-linux), which keeps processors awake, can't be run: {error}")
                })
        };
        let processors = std::thread::available_parallelism()?.get();
        let spinning = (1..processors.max(2)).map(|_| spin()).collect::<std::result::Result<_, _>>()?;
        Ok(Self { _spinning: spinning })
    }
}
