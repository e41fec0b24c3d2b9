//! Processes that are stopped by the machine and go on later, as if no time had passed.

use std::fs;
use std::time::Duration;

use distributed_events::storage::Storage;

use super::{Place, Shared, Todo, doing, of};
use crate::eventually::eventually;

/// A zombie with leases, and perhaps with sends under way.
pub async fn an_instance_that_is_frozen_between_events_is_replaced_and_comes_back<F: Shared>() {
    let place = Place::<F>::new().await;
    let a = place.start("a", &[]);
    place.publish(&[of("s0", 0), of("s1", 0)]).await;
    place.effects(2).await;
    place.freeze(&a).await;
    let b = place.start("b", &[]);
    place.publish(&[of("s0", 1), of("s1", 1)]).await;
    place.effects(4).await;
    assert_eq!(place.share("b").await, 2);
    a.resume();
    place.publish(&(2..20).flat_map(|n| [of("s0", n), of("s1", n)]).collect::<Vec<_>>()).await;
    place.assert_in_order(2, 20).await;
    // It is an instance like any again.
    b.stop().await;
    place.publish(&[of("s0", 20), of("s1", 20)]).await;
    place.assert_in_order(2, 21).await;
    a.stop().await;
}

/// The holder is frozen in the middle of S:1, with its row marked and its effect written; another takes over; the holder
/// goes on (rules 3, 4 and 10).
pub async fn an_instance_that_is_frozen_inside_its_handler_doubles_nothing<F: Shared>() {
    let place = Place::<F>::new().await;
    fs::write(place.file("pause"), "").unwrap();
    let a = place.start("a", &[]);
    place.publish(&[doing("s0", 0, Todo::Pause), of("s0", 1), of("s1", 0)]).await;
    let paused = || async { place.file("a.paused").exists() };
    eventually("it is in the handler", paused, |paused| *paused).await;
    a.freeze().await;
    fs::remove_file(place.file("pause")).unwrap();
    let b;
    if F::DB::SINGLE_WRITER {
        // Nothing frees the lock of a frozen process there (rule 10): nobody else can write, and nothing is lost.
        tokio::time::sleep(super::program::LEASE).await;
        a.resume();
        b = place.start("b", &[]);
    } else {
        b = place.start("b", &[]);
        place.effects(3).await;
        let taken = "SELECT count(*) FROM effects WHERE session_id = 's0' AND instance = 'b'";
        assert_eq!(place.number(taken).await, 2, "the database has ended the frozen transaction");
        place.publish(&[of("s0", 2), of("s1", 1)]).await;
        place.effects(5).await;
        a.resume();
        place.publish(&[of("s1", 2)]).await;
    }
    if F::DB::SINGLE_WRITER {
        place.publish(&[of("s0", 2), of("s1", 1), of("s1", 2)]).await;
    }
    place.assert_in_order(2, 3).await;
    a.stop().await;
    b.stop().await;
}

/// Three instances, of which one is killed and one frozen and resumed meanwhile. The full size is `--long`'s.
pub async fn a_thousand_sessions_stay_in_order_whatever_happens<F: Shared>() {
    let (sessions, each) = if crate::is_long() { (1_000, 50) } else { (100, 10) };
    let all = i64::try_from(sessions).unwrap() * each;
    let place = Place::<F>::new().await;
    let a = place.start("a", &[]);
    let [_b, c] = [place.start("b", &[]), place.start("c", &[])];
    let publishing = async {
        for n in 0..each {
            for some in (0..sessions).collect::<Vec<_>>().chunks(100) {
                place.publish(&some.iter().map(|s| of(&format!("s{s}"), n)).collect::<Vec<_>>()).await;
            }
        }
    };
    let happening = async {
        place.effects(all / 5).await;
        place.freeze(&c).await;
        place.effects(all / 4).await;
        a.kill();
        let _d = place.start("d", &[]);
        // Until the leases of both are over.
        tokio::time::sleep(super::program::LEASE).await;
        c.resume();
        let count = || place.number("SELECT count(*) FROM effects");
        let patience = Duration::from_secs(if crate::is_long() { 1_800 } else { 60 });
        crate::eventually::within(patience, "all effects", count, |count| *count >= all).await;
        place.assert_in_order(sessions, each).await;
    };
    tokio::join!(publishing, happening);
}
