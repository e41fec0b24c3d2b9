//! Prometheus' text format, scraped.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use tests::eventually::DEADLINE;

use crate::shop::Shop;

fn scrape(address: &str) -> String {
    let mut connection = TcpStream::connect(address).unwrap();
    write!(connection, "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{answer}");
    body.to_owned()
}

/// The sum of a metric's series, by name.
fn figures(text: &str) -> BTreeMap<String, f64> {
    let mut figures = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let name = series.split('{').next().unwrap();
        *figures.entry(name.to_owned()).or_default() += value.parse::<f64>().unwrap();
    }
    figures
}

#[test]
fn prometheus_finds_the_metrics_of_each_service() {
    let mut shop = Shop::open("telemetry_prometheus", &[], &["127.0.0.1:0"]);
    let address = shop.ordering.says("metrics at http://");
    let address = address.trim_end_matches("/metrics");
    // Who collects for the first time asks for the tables to be looked at.
    scrape(address);
    shop.sell_three();
    let end = Instant::now() + DEADLINE;
    let found = loop {
        let found = figures(&scrape(address));
        if found.contains_key("distributed_events_outbox_rows") {
            break found;
        }
        assert!(Instant::now() < end, "{found:#?}");
        std::thread::yield_now();
    };
    shop.close();
    assert!(found["messaging_client_sent_messages_total"] >= 3.0, "{found:#?}");
    assert!(found["distributed_events_attempts_total"] >= 3.0, "{found:#?}");
    assert_eq!(found["distributed_events_broker_reconnects_total"], 0.0, "{found:#?}");
    assert!(found["distributed_events_end_to_end_latency_seconds_count"] >= 3.0, "{found:#?}");
    assert!(found.contains_key("distributed_events_outbox_oldest_pending_age_seconds"), "{found:#?}");
}
