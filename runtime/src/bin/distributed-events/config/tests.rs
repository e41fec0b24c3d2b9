use super::*;

fn mistakes(text: &str) -> String {
    Config::parse("relay.toml", text).unwrap_err().to_string()
}

#[test]
fn every_mistake_is_told_with_its_line_and_key() {
    let text = r#"
[database]
url_env = "DATABASE_URL"
[outbox]
pol_interval = "1s"
batch_size = 0
lease_time = "soon"
retry_initial = "1m"
[inbox]
receive_batch = "many"
[lanes.default]
transport = "smtp"
[[subscriptions]]
topic = "orders"
lane = "critical"
[log]
format = "xml"
"#;
    assert_eq!(
        mistakes(text),
        r#"the configuration has 10 mistakes:
  relay.toml:5: [outbox] pol_interval: this key is unknown; there are batch_size, default_topic, delete_sent, in_flight, keep_sent, lease_time, poll_interval, relay, retry_initial, retry_max
  relay.toml:6: [outbox] batch_size: 0 is not between 1 and 4500
  relay.toml:7: [outbox] lease_time: "soon": it is no span of time, such as 500ms, 90s, 15m, 2h or 7d
  relay.toml:8: [outbox] retry_initial: the first wait is longer than the longest, `retry_max`
  relay.toml:10: [inbox] receive_batch: a whole number is expected here, not string
  relay.toml:11: [lanes.default] connection_string_env: it is missing: name the environment variable, or with `connection_string_file` the file, that holds the connection string of the namespace
  relay.toml:12: [lanes.default] transport: "smtp" is not one of "amqp", "web-sockets", "https"
  relay.toml:13: [[subscriptions]] name: it is missing
  relay.toml:15: [[subscriptions]] lane: there is no [lanes.critical] that it could be received by
  relay.toml:17: [log] format: "xml" is not one of "text", "json""#
    );
}

#[test]
fn what_is_no_toml_is_told_with_its_line() {
    assert!(mistakes("[outbox]\nbatch_size = = 3\n").contains("relay.toml:2: "));
}

#[test]
fn a_secret_is_read_when_it_is_needed_and_never_shown() {
    let text = "[database]\nurl = \"postgres://u:s3cret@h/d\"\n[lanes.default]\nconnection_string_env = \"NOT_SET_ANYWHERE\"";
    let config = Config::parse("relay.toml", text).unwrap();
    assert!(!format!("{config:?}").contains("s3cret"));
    let missing = config.lanes[0].connection_string.text().unwrap_err();
    assert_eq!(
        missing,
        "relay.toml:4: [lanes.default] connection_string_env: the environment variable NOT_SET_ANYWHERE is not set, or no text"
    );
}
