//! Processes that end without a word.

use super::{Place, Shared, Todo, doing, of};
use crate::eventually::eventually;

/// Killed and replaced again and again, in the middle of relaying and handling.
pub async fn a_killed_instance_loses_and_doubles_nothing<F: Shared>() {
    let place = Place::<F>::new().await;
    let mut instances = vec![place.start("i0", &["slow"]), place.start("i1", &["slow"])];
    for n in 0..24_i64 {
        place.publish(&(0..6).map(|session| of(&format!("s{session}"), n)).collect::<Vec<_>>()).await;
        if n % 6 == 4 {
            place.effects(n * 3).await;
            // The older of the two, which has the lane.
            instances.remove(0).kill();
            instances.push(place.start(&format!("i{n}"), &["slow"]));
        }
    }
    place.assert_in_order(6, 24).await;
}

/// An abort, a stack overflow, an exit: its attempts are counted although nobody lives to count them (rule 11), and the
/// events beside it are handled once.
pub async fn an_event_that_kills_its_process_ends_dead<F: Shared>() {
    let place = Place::<F>::new().await;
    let deadly = [Todo::Abort, Todo::Overflow, Todo::Exit];
    let mut events: Vec<_> = (0..30).map(|n| of(&format!("s{}", n % 10), n / 10)).collect();
    events.extend(deadly.iter().zip(0..).map(|(todo, n)| doing(&format!("deadly{n}"), n, *todo)));
    place.publish(&events).await;
    let mut instance = place.start("a", &["slow"]);
    let mut deaths = 0;
    let end = std::time::Instant::now() + std::time::Duration::from_secs(120);
    loop {
        let dead = place.number("SELECT count(*) FROM inbox WHERE status = 'dead'").await;
        if dead == 3 && place.number("SELECT count(*) FROM effects").await == 30 {
            break;
        }
        assert!(std::time::Instant::now() < end, "{dead} are dead after {deaths} deaths");
        if instance.has_ended() {
            deaths += 1;
            // Nobody waits for its leases.
            place.fixture.execute(F::BURY).await;
            instance = place.start("a", &["slow"]);
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(deaths >= 3, "each has killed at least once, and three in all at most nine times: {deaths}");
    let attempts = "SELECT count(*) FROM inbox WHERE status = 'dead' AND attempts = 3";
    eventually("counted", || place.number(attempts), |count| *count == 3).await;
    let mut conn = place.fixture.conn().await;
    for session in 0..10 {
        let sql = format!("SELECT n FROM effects WHERE session_id = 's{session}' ORDER BY seq");
        assert_eq!(F::numbers(&mut conn, &sql).await, [0, 1, 2]);
    }
}
