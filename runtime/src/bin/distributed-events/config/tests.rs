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
  relay.toml:11: [lanes.default] connection_string_env: it is missing: name the environment variable, or with `connection_string_file` the file, that holds the connection string of the namespace; or name the `namespace` and the `credential` to come in with
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
    let missing = match &config.lanes[0].access {
        Access::ConnectionString(given) => given.text().unwrap_err(),
        Access::Identity(identity) => panic!("{identity:?}"),
    };
    assert_eq!(
        missing,
        "relay.toml:4: [lanes.default] connection_string_env: the environment variable NOT_SET_ANYWHERE is not set, or no text"
    );
}

#[test]
fn what_is_declared_twice_is_declared_alike() {
    let twice = |first: &str, second: &str| {
        format!("[[topics]]\nname = \"orders\"\n{first}\n[[topics]]\nname = \"orders\"\n{second}\n")
    };
    let same = twice("default_ttl = \"7d\"", "default_ttl = \"168h\"");
    assert_eq!(Config::parse("relay.toml", &same).unwrap().topics.len(), 1);
    assert_eq!(
        mistakes(&twice("default_ttl = \"7d\"", "default_ttl = \"8d\"\nduplicate_detection = \"1m\"")),
        "the configuration has 2 mistakes:
  relay.toml:6: [[topics]] default_ttl: topic orders is declared at relay.toml:1 already, and otherwise: say the same in both, or leave one out
  relay.toml:7: [[topics]] duplicate_detection: topic orders is declared at relay.toml:1 already, and otherwise: say the same in both, or leave one out"
    );
    let subscription =
        |more: &str| format!("[[subscriptions]]\ntopic = \"orders\"\nname = \"billing\"\n{more}\n");
    let same = subscription("events = [\"a\", \"b\"]") + &subscription("events = [\"b\", \"a\"]");
    assert_eq!(Config::parse("relay.toml", &same).unwrap().subscriptions.len(), 1);
    assert_eq!(
        mistakes(&(subscription("events = [\"a\"]\nsessions = true") + &subscription("events = [\"a\"]"))),
        "the configuration has a mistake:
  relay.toml:6: [[subscriptions]] sessions: subscription billing on topic orders is declared at relay.toml:1 already, and otherwise: say the same in both, or leave one out"
    );
    let lanes =
        "[lanes.default]\nconnection_string_env = \"A\"\n[lanes.critical]\nconnection_string_env = \"B\"\n";
    let apart = format!("{lanes}{}", twice("default_ttl = \"7d\"", "lane = \"critical\""));
    assert_eq!(Config::parse("relay.toml", &apart).unwrap().topics.len(), 2, "two brokers");
}

#[test]
fn an_identity_is_named_by_its_kind() {
    let lane = |text: &str| Config::parse("relay.toml", &format!("[lanes.default]\n{text}"));
    let told = |text: &str| lane(text).unwrap_err().to_string();
    for right in [
        "namespace = \"n\"\ncredential = \"managed-identity\"",
        "namespace = \"n\"\ncredential = \"managed-identity\"\nclient_id = \"c\"\ntransport = \"web-sockets\"",
        "namespace = \"n\"\ncredential = \"workload-identity\"\ntoken_file = \"/t\"",
        "namespace = \"n\"\ncredential = \"client-secret\"\nclient_secret_env = \"S\"\ntenant_id = \"t\"",
    ] {
        assert!(matches!(lane(right).unwrap().lanes[0].access, Access::Identity(_)), "{right}");
    }
    for (wrong, problem) in [
        (
            "namespace = \"n\"",
            "relay.toml:1: [lanes.default] credential: it is missing: say one of \"managed-identity\"",
        ),
        ("credential = \"managed-identity\"", "relay.toml:1: [lanes.default] namespace: it is missing"),
        (
            "namespace = \"n\"\ncredential = \"key\"",
            "relay.toml:3: [lanes.default] credential: \"key\" is not one of",
        ),
        (
            "namespace = \"n\"\ncredential = \"client-secret\"",
            "relay.toml:1: [lanes.default] client_secret_env: it is missing: name the environment variable",
        ),
        (
            "namespace = \"n\"\ncredential = \"client-secret\"\nclient_secret = \"s3cret\"",
            "relay.toml:4: [lanes.default] client_secret: a secret does not stand here: say `client_secret_env`",
        ),
        (
            "namespace = \"n\"\ncredential = \"managed-identity\"\nclient_secret_env = \"S\"",
            "relay.toml:4: [lanes.default] client_secret_env: it is of use with `credential = \"client-secret\"` alone",
        ),
        (
            "namespace = \"n\"\ncredential = \"managed-identity\"\nconnection_string_env = \"S\"",
            "relay.toml:2: [lanes.default] namespace: it stands in the connection string already",
        ),
        (
            "namespace = \"n\"\ncredential = \"managed-identity\"\ntransport = \"https\"",
            "relay.toml:4: [lanes.default] transport: an identity comes in by \"amqp\" or \"web-sockets\"",
        ),
    ] {
        let told = told(wrong);
        assert!(told.contains(problem) && !told.contains("s3cret"), "{wrong}\n{told}");
    }
}
