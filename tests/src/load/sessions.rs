//! Many sessions, and one that never rests.

use std::time::Duration;

use distributed_events::storage::shard_of;

use super::Shared;
use crate::eventually::within;
use crate::rules::{Rig, Step, beside, step};

const HOT: &str = "hot";
/// How many of the hot session's events wait at any time.
const HEAT: usize = 200;
/// How many rows a worker reads at a time.
const PAGE: usize = 100;

/// The hot session's backlog never ends, for as long as it takes until all the others are done. Each session is handled in
/// its order, and in the hot one's own shard, where it could do harm, nobody is overtaken by more than one page of it.
pub async fn thousands_of_sessions_stay_in_order_beside_a_hot_one<F: Shared>() {
    let rig = Rig::<F>::new().await;
    let sessions = if crate::is_long() { 10_000 } else { 200 };
    // The number of an event is its place in the order of arrival, and in this list.
    let mut arrived: Vec<Option<usize>> = Vec::new();
    receive(&rig, &mut arrived, &vec![None; HEAT]).await;
    for _round in 0..3 {
        for some in (0..sessions).collect::<Vec<_>>().chunks(500) {
            receive(&rig, &mut arrived, &some.iter().copied().map(Some).collect::<Vec<_>>()).await;
        }
    }
    let others = 3 * i64::try_from(sessions).unwrap();

    let waiting = format!("SELECT count(*) FROM inbox WHERE status = 'pending' AND session_id = '{HOT}'");
    let done = format!("SELECT count(*) FROM inbox WHERE status <> 'pending' AND session_id <> '{HOT}'");
    beside(&rig.bus(), async {
        let arrived = tokio::sync::Mutex::new(&mut arrived);
        let look = || async {
            if rig.fixture.number(&waiting).await < HEAT as i64 / 2 {
                let mut arrived = arrived.lock().await;
                receive(&rig, &mut arrived, &[None; HEAT / 2]).await;
            }
            rig.fixture.number(&done).await
        };
        within(Duration::from_secs(1800), "all the others are done", look, |done| *done == others).await;
    })
    .await;

    let handled: Vec<_> = rig.effects(None).await.into_iter().map(|n| usize::try_from(n).unwrap()).collect();
    let of = |session: Option<usize>| -> Vec<usize> {
        handled.iter().copied().filter(|n| arrived[*n] == session).collect()
    };
    let mut orders: Vec<Vec<usize>> = vec![Vec::new(); sessions];
    for n in &handled {
        if let Some(session) = arrived[*n] {
            orders[session].push(*n);
        }
    }
    for (session, order) in orders.iter().enumerate() {
        assert_eq!(order.len(), 3, "session {session}");
        assert!(order.is_sorted(), "session {session}: {order:?}");
    }
    let hot = of(None);
    let expected = (0..arrived.len()).filter(|n| arrived[*n].is_none()).take(hot.len());
    assert!(hot.iter().copied().eq(expected), "the hot session: {hot:?}");
    assert!(hot.len() > HEAT / 2, "it was never hot: {}", hot.len());

    let beside_it =
        |n: &usize| arrived[*n].is_some_and(|session| shard_of(&name(Some(session))) == shard_of(HOT));
    let mut seen_hot: Vec<usize> = Vec::new();
    let mut neighbours = 0;
    for n in &handled {
        if arrived[*n].is_none() {
            seen_hot.push(*n);
        } else if beside_it(n) {
            neighbours += 1;
            let overtook = seen_hot.iter().rev().take_while(|hot| *hot > n).count();
            assert!(overtook <= PAGE, "{n} was overtaken by {overtook} of the hot session");
        }
    }
    assert!(neighbours > 0, "nobody is in the hot session's shard");
}

fn name(session: Option<usize>) -> String {
    session.map_or_else(|| HOT.to_owned(), |session| format!("s{session}"))
}

async fn receive<F: Shared>(rig: &Rig<F>, arrived: &mut Vec<Option<usize>>, sessions: &[Option<usize>]) {
    let mut steps: Vec<Step> = Vec::with_capacity(sessions.len());
    for session in sessions {
        steps.push(step(&name(*session), i64::try_from(arrived.len()).unwrap()));
        arrived.push(*session);
    }
    rig.receive(&steps).await;
}
