//! The cases, as functions over a [`Ground`].

use tests::is_long;

use crate::chance::seed;
use crate::checker::Finding;
use crate::faults::points;
use crate::ground::Ground;
use crate::run::{Outcome, Over, Plan, Setting, run};

/// Whether this is left to `./tests/run --long`, which leaves nothing out. The others run one death for each point on
/// every database over Service Bus's wire, and on SQLite everything.
fn is_left_out<G: Ground>(over: Over) -> bool {
    let left = !is_long() && G::SERVER.is_some() && over == Over::Local;
    if left {
        println!("left to ./tests/run --long");
    }
    left
}

async fn assert_good<G: Ground>(seed: u64, over: Over, plan: Plan) -> Outcome {
    let outcome = run::<G>(Setting { seed, over, plan, broken: None }).await;
    assert!(outcome.findings.is_empty(), "{} findings", outcome.findings.len());
    outcome
}

/// One death at each point of the walk, in one run.
pub async fn dies_at_every_point<G: Ground>(over: Over) {
    if is_left_out::<G>(over) {
        return;
    }
    let points = points(over);
    let outcome = assert_good::<G>(seed(), over, Plan::Points(points.clone())).await;
    for point in points {
        assert!(outcome.has_reached(point), "nobody died at {point}");
    }
}

/// The same, in a run for each: nothing else happens that could mend what it has broken. `--long` alone does it.
pub async fn dies_at_each_point_alone<G: Ground>(over: Over) {
    if !is_long() {
        println!("left to ./tests/run --long");
        return;
    }
    let first = seed();
    for (seed, point) in (first..).zip(points(over).into_iter().cycle().take(2 * points(over).len())) {
        let outcome = assert_good::<G>(seed, over, Plan::Points(vec![point])).await;
        assert!(outcome.has_reached(point), "nobody died at {point}");
    }
}

/// One death at each point to which only trouble leads: rows that can't be read, an inbox that is away, leases given back.
pub async fn dies_where_trouble_leads<G: Ground>(over: Over) {
    if is_left_out::<G>(over) {
        return;
    }
    let points = distributed_events::crash::TROUBLE_POINTS.to_vec();
    let outcome = assert_good::<G>(seed(), over, Plan::Trouble(points.clone())).await;
    for point in points {
        assert!(outcome.has_reached(point), "nobody died at {point}");
    }
}

/// Everything that can fail does, by chance.
pub async fn lives_through_anything<G: Ground>(over: Over) {
    if is_left_out::<G>(over) {
        return;
    }
    let (runs, faults) = if is_long() { (20, 60) } else { (1, 20) };
    let first = seed();
    for seed in first..first + runs {
        assert_good::<G>(seed, over, Plan::Random(faults)).await;
    }
}

/// One that has stopped in the middle of its work comes back after others have taken it over.
pub async fn a_late_instance_doubles_nothing<G: Ground>(over: Over) {
    if is_left_out::<G>(over) {
        return;
    }
    assert_good::<G>(seed(), over, Plan::Stall("processor.before-mark")).await;
}

/// The checker is worth something only if it finds what comes of a missing protection.
async fn assert_found<G: Ground>(
    over: Over,
    broken: &'static str,
    plan: Plan,
    is_it: impl Fn(&Finding) -> bool,
) {
    if is_left_out::<G>(over) {
        return;
    }
    let first = seed();
    for seed in first..first + 3 {
        let outcome = run::<G>(Setting { seed, over, plan: plan.clone(), broken: Some(broken) }).await;
        if outcome.findings.iter().any(&is_it) {
            return;
        }
    }
    panic!("nobody misses {broken}");
}

/// Without the identity of the inbox's rows.
pub async fn a_missing_dedupe_is_found<G: Ground>(over: Over) {
    let plan = Plan::Points(vec!["inbox.after-ingest", "relay.after-send", "relay.before-mark"]);
    assert_found::<G>(over, "dedupe", plan, |finding| matches!(finding, Finding::Doubled(_))).await;
}

/// Without the look at what was marked.
pub async fn a_missing_guard_is_found<G: Ground>(over: Over) {
    let plan = Plan::Stall("processor.before-mark");
    assert_found::<G>(over, "guard", plan, |finding| matches!(finding, Finding::Doubled(_))).await;
}

/// Without a session's wait for its event that is tried again.
pub async fn missing_sessions_are_found<G: Ground>(over: Over) {
    let plan = Plan::Points(vec!["processor.after-commit", "processor.marked"]);
    assert_found::<G>(over, "sessions", plan, |finding| matches!(finding, Finding::Reordered(_))).await;
}

/// Stamps out one test for each case on a kind of database.
#[macro_export]
macro_rules! crashes {
    ($ground:ty) => {
        $crate::crashes! { @cases ($ground)
            local Local: dies_at_every_point, dies_at_each_point_alone, dies_where_trouble_leads, lives_through_anything,
                a_late_instance_doubles_nothing, a_missing_dedupe_is_found, a_missing_guard_is_found,
                missing_sessions_are_found;
            emulator Emulator: dies_at_every_point, dies_at_each_point_alone, lives_through_anything;
        }
    };
    (@cases ($ground:ty) $($module:ident $over:ident: $($case:ident),+;)+) => {
        $(mod $module {
            $(#[::tokio::test(flavor = "multi_thread")]
            async fn $case() {
                $crate::cases::$case::<$ground>($crate::run::Over::$over).await;
            })+
        })+
    };
}
