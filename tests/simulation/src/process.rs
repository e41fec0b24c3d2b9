//! A process of a service: how long its calls take, whether it lives, and what the trace says of it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crash::chance::Chance;
use tokio::time::Instant;

use crate::trace::Trace;

/// One life of an instance, from its start to its end.
pub struct Process {
    name: String,
    seed: u64,
    trace: Trace,
    dead: AtomicBool,
    frozen_until: Mutex<Option<Instant>>,
    /// How often it has made each call.
    calls: Mutex<BTreeMap<String, u64>>,
}

impl Process {
    /// A process that lives.
    pub fn new(name: String, seed: u64, trace: Trace) -> Arc<Self> {
        trace.say(&name, || "starts".to_owned());
        Arc::new(Self {
            name,
            seed,
            trace,
            dead: AtomicBool::new(false),
            frozen_until: Mutex::new(None),
            calls: Mutex::default(),
        })
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// From now on nothing of it reaches anybody, whatever its tasks still do.
    pub fn kill(&self) {
        self.dead.store(true, Relaxed);
        self.say(|| "is killed".to_owned());
    }

    /// Whether it was killed.
    pub fn is_dead(&self) -> bool {
        self.dead.load(Relaxed)
    }

    /// Stops it for a while, without its noticing.
    pub fn freeze(&self, time: Duration) {
        *self.frozen_until.lock().unwrap() = Some(Instant::now() + time);
        self.say(|| format!("is frozen for {time:?}"));
    }

    /// Adds a line to the trace.
    pub fn say(&self, text: impl FnOnce() -> String) {
        self.trace.say(&self.name, text);
    }

    /// Numbers for the next call of this name: by the seed, the process and the call alone, so that no other call changes
    /// them.
    pub fn chance(&self, call: &str) -> Chance {
        let mut calls = self.calls.lock().unwrap();
        let count = match calls.get_mut(call) {
            Some(count) => count,
            None => calls.entry(call.to_owned()).or_default(),
        };
        *count += 1;
        let name = self.name.bytes().chain(call.bytes());
        let named = name.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        Chance::nth(self.seed ^ named, *count)
    }

    /// The way of a call, or of its answer, through the net. Never ends for a dead process.
    pub async fn travel(&self, chance: &mut Chance) {
        let time = match chance.below(1000) {
            0..900 => chance.below(3),
            900..990 => chance.below(40),
            _ => chance.below(3_000),
        };
        tokio::time::sleep(Duration::from_millis(time)).await;
        self.thaw().await;
    }

    async fn thaw(&self) {
        loop {
            if self.is_dead() {
                std::future::pending::<()>().await;
            }
            let until = *self.frozen_until.lock().unwrap();
            match until.filter(|until| Instant::now() < *until) {
                Some(until) => tokio::time::sleep_until(until).await,
                None => return,
            }
        }
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").field("name", &self.name).finish_non_exhaustive()
    }
}
