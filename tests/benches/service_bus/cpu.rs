//! Processor time, where two processes share few cores.

/// Clock ticks in a second, as Linux tells them (`proc_pid_stat(5)`).
const TICKS: f64 = 100.0;

/// Seconds that this process and another have used so far, on all cores.
pub fn both(other: u32) -> f64 {
    used("self") + used(&other.to_string())
}

fn used(process: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    // After the name, which may hold spaces, the 14th and 15th of all fields.
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / TICKS
}
