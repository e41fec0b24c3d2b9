//! What happens to the services, by the seed.

use std::time::Duration;

use crate::chance::Chance;
use crate::run::Over;

/// Instances of one run: two of ordering, then two of billing.
pub const INSTANCES: usize = 4;

/// A TCP connection between two machines, or what would be two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// To the emulator.
    Broker,
    /// From ordering to its database.
    Ordering,
    /// From billing to its database.
    Billing,
}

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An instance is killed.
    Kill(usize),
    /// An instance is killed, and the one that takes its place dies when it passes a point for the n-th time.
    KillAt(usize, &'static str, u64),
    /// An instance stops, as if no time passed, for so long.
    Stop(usize, Duration),
    /// The database server is killed and comes back.
    Server,
    /// The same for the emulator.
    Emulator,
    /// All connections end.
    Cut(Wire),
    /// Nothing passes for so long, and nobody is told.
    Silence(Wire, Duration),
    /// Everything takes so much longer for so long.
    Slow(Wire, Duration, Duration),
}

/// A fault, and how long after the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The wait.
    pub after: Duration,
    /// What happens then.
    pub fault: Fault,
}

/// The points that a service passes over this broker.
pub fn points(over: Over) -> Vec<&'static str> {
    let mut points = distributed_events::crash::POINTS.to_vec();
    if over == Over::Emulator {
        points.extend(distributed_events::crash::SETTLE_POINTS);
    }
    points
}

/// So many faults.
pub fn schedule(seed: u64, steps: usize, over: Over, server: bool) -> Vec<Step> {
    let mut chance = Chance::nth(seed, u64::MAX);
    let points = points(over);
    (0..steps)
        .map(|_| Step {
            after: Duration::from_millis(50 + chance.below(900)),
            fault: fault(&mut chance, over, server, &points),
        })
        .collect()
}

fn fault(chance: &mut Chance, over: Over, server: bool, points: &[&'static str]) -> Fault {
    let instance = usize::try_from(chance.below(INSTANCES as u64)).unwrap();
    let mut wires = Vec::new();
    if over == Over::Emulator {
        wires.push(Wire::Broker);
    }
    if server {
        wires.extend([Wire::Ordering, Wire::Billing]);
    }
    let some = Duration::from_millis(200 + chance.below(4_000));
    match chance.below(100) {
        0..8 if server => Fault::Server,
        8..18 if over == Over::Emulator => Fault::Emulator,
        // Nothing frees the lock of a process that is stopped where there is no server (rule 10).
        18..26 if server => Fault::Stop(instance, some),
        26..36 if !wires.is_empty() => Fault::Cut(chance.one_of(&wires)),
        36..42 if !wires.is_empty() => Fault::Silence(chance.one_of(&wires), some),
        42..50 if !wires.is_empty() => {
            Fault::Slow(chance.one_of(&wires), Duration::from_millis(1 + chance.below(40)), some)
        }
        50..75 => Fault::KillAt(instance, chance.one_of(points), 1 + chance.below(5)),
        _ => Fault::Kill(instance),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_is_the_same_schedule() {
        let of = |seed| schedule(seed, 50, Over::Emulator, true);
        assert_eq!(of(7), of(7));
        assert_ne!(of(7), of(8));
    }

    #[test]
    fn only_what_is_there_fails() {
        for step in schedule(3, 500, Over::Local, false) {
            assert!(matches!(step.fault, Fault::Kill(_) | Fault::KillAt(..)), "{step:?}");
        }
    }
}
