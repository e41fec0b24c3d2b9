//! What a configuration file says, and what is wrong with it.

use crate::program::Program;

#[test]
fn every_mistake_is_told_at_once_with_its_line() {
    let program = Program::new();
    program.write(
        "relay.toml",
        "[outbox]\nbatch_size = 0\nin_flight = \"8\"\npoll = \"1s\"\n\n[lane.default]\n",
    );
    let error = program.fails(2, &["--config", "relay.toml", "relay"]);
    assert_eq!(
        error,
        "error: the configuration has 4 mistakes:
  relay.toml:2: [outbox] batch_size: 0 is not between 1 and 4500
  relay.toml:3: [outbox] in_flight: a whole number is expected here, not string
  relay.toml:4: [outbox] poll: this key is unknown; there are batch_size, default_topic, delete_sent, in_flight, keep_sent, \
         lease_time, poll_interval, relay, retry_initial, retry_max
  relay.toml:6: lane: this key is unknown; there are database, errors, inbox, lanes, log, outbox, subscriptions, telemetry, topics\n"
    );
    let error = program.fails(2, &["--config", "not-there.toml", "status"]);
    assert!(error.contains("not-there.toml can't be read"), "{error}");
}

#[test]
fn what_a_relay_lacks_is_told_at_once() {
    let program = Program::new();
    assert!(program.fails(2, &["relay"]).contains("--config FILE"));
    program.write("relay.toml", "[inbox]\nrelay = true\n[database]\nurl_env = \"NOT_SET_ANYWHERE\"\n");
    let error = program.fails(2, &["--config", "relay.toml", "relay"]);
    for part in [
        "there is no lane: add [lanes.default]",
        "add [[subscriptions]]",
        "relay.toml:4: [database] url_env: the environment variable NOT_SET_ANYWHERE is not set",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
    program.write(
        "relay.toml",
        "[lanes.default]\nconnection_string_env = \"NOT_SET_ANYWHERE\"\ntransport = \"https\"\n\
         [[subscriptions]]\ntopic = \"orders\"\nname = \"billing\"\nsessions = true\n",
    );
    let error = program.fails(2, &["--config", "relay.toml", "relay"]);
    assert!(error.contains("subscription billing on topic orders has sessions"), "{error}");
    assert!(
        error.contains("relay.toml:2: [lanes.default] connection_string_env: the environment variable"),
        "{error}"
    );
    program.write("relay.toml", "[lanes.default]\nbroker = \"local\"\n");
    let error = program.fails(2, &["--config", "relay.toml", "relay"]);
    assert!(
        error.contains("relay.toml:2: [lanes.default] broker: a relay of its own speaks to \"service-bus\""),
        "{error}"
    );
}

#[test]
fn a_database_is_named_by_a_file_that_holds_a_secret() {
    let program = Program::new();
    program.write("url", &format!("{}\n", program.url()));
    program.write("c.toml", "[database]\nurl_file = \"url\"\n");
    let output =
        program.command(&["--config", "c.toml", "status"]).env_remove("DATABASE_URL").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
#[cfg(feature = "service-bus")]
fn a_key_is_not_shown_where_a_connection_string_is_wrong() {
    let program = Program::new();
    let wrong = "Endpoint=sb://shop.servicebus.windows.net/;SharedAccessKeyName=a;SharedAccessKeyX=s3cret=";
    program.write("relay.toml", &format!("[lanes.default]\nconnection_string = \"{wrong}\"\n"));
    let error = program.fails(2, &["--config", "relay.toml", "relay"]);
    assert!(
        error.contains("relay.toml:2: [lanes.default] connection_string: the connection string has no"),
        "{error}"
    );
    assert!(!error.contains("s3cret"), "{error}");
}

#[test]
fn a_topology_is_shown_without_a_broker() {
    let program = Program::new();
    program.write(
        "t.toml",
        "[[topics]]\nname = \"payments\"\n[[subscriptions]]\ntopic = \"orders\"\nname = \"billing\"\n\
         events = [\"order-placed\"]\nsessions = true\n",
    );
    let shown = program.ok(&["--config", "t.toml", "topology"]);
    assert_eq!(
        shown,
        "service-bus of lane default, lane default\n  topic orders: duplicate detection 10 min\n    subscription billing: \
         sessions, lock 1 min, 100 deliveries\n      order-placed\n  topic payments: duplicate detection 10 min\n"
    );
    assert!(
        program
            .ok(&["--config", "t.toml", "topology", "--bicep"])
            .contains("Microsoft.ServiceBus/namespaces/topics")
    );
    let bicep = program.json(&["--config", "t.toml", "topology", "--bicep"]);
    assert_eq!(bicep[0]["broker"], "service-bus of lane default");
    assert_eq!(bicep[0]["lanes"], serde_json::json!(["default"]));
    assert!(bicep[0]["bicep"].as_str().unwrap().contains("Microsoft.ServiceBus/namespaces/topics"));
    let json = program.ok(&["--config", "t.toml", "--json", "topology", "--show"]);
    program.write("t.json", &json);
    assert_eq!(program.ok(&["topology", "--from", "t.json"]), shown, "what a service writes is read again");
    assert!(program.fails(2, &["topology"]).contains("[[topics]]"));
    assert!(
        program.fails(2, &["--config", "t.toml", "topology", "--lane", "critical"]).contains("lane critical")
    );
    assert!(program.fails(2, &["--config", "t.toml", "topology", "--check"]).contains("[lanes.default]"));
    program.write("t.toml", "[[subscriptions]]\ntopic = \"order events\"\nname = \"billing\"\n");
    let error = program.fails(2, &["--config", "t.toml", "topology"]);
    assert!(error.contains("`order events`") && error.contains("takes no event"), "{error}");
}

/// Whose lanes are told apart by their names alone may still be one broker's.
#[test]
#[cfg(feature = "service-bus")]
fn two_lanes_of_one_broker_do_not_say_two_things_of_one() {
    let program = Program::new();
    let key = "Endpoint=sb://shop.servicebus.windows.net/;SharedAccessKeyName=a;SharedAccessKey=c2VjcmV0";
    let lane = |name: &str| format!("[lanes.{name}]\nconnection_string = \"{key}\"\n");
    let declared = |lane: &str, sessions: bool| {
        format!(
            "[[subscriptions]]\ntopic = \"orders\"\nname = \"billing\"\nlane = \"{lane}\"\nevents = [\"placed\"]\nsessions = {sessions}\n"
        )
    };
    for (sessions, told) in [(true, false), (false, true)] {
        let text =
            [lane("default"), lane("critical"), declared("default", true), declared("critical", sessions)];
        program.write("t.toml", &text.concat());
        let said = program.run(&["--config", "t.toml", "topology"]);
        assert_eq!(said.status, if told { 2 } else { 0 }, "{}", said.error);
        let problem = "t.toml:11: subscription billing on topic orders is declared at t.toml:5 already, by a lane of the \
            same broker, and otherwise (sessions)";
        assert_eq!(said.error.contains(problem), told, "{}", said.error);
    }
}

/// The one that the README points to.
#[test]
#[cfg(feature = "service-bus")]
fn the_example_is_right() {
    let program = Program::new();
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/relay_service/config.toml");
    let text = std::fs::read_to_string(example).unwrap();
    // With every default written out, too.
    let written: String = text
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(said)
                if said.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '))
                    && !said.starts_with("root_certificates") =>
            {
                format!("{said}\n")
            }
            _ => format!("{line}\n"),
        })
        .collect();
    let key = "Endpoint=sb://shop.servicebus.windows.net/;SharedAccessKeyName=a;SharedAccessKey=c2VjcmV0";
    for text in [text, written] {
        program.write("relay.toml", &text);
        let checked = program
            .command(&["--config", "relay.toml", "relay", "--check"])
            .env("SERVICE_BUS", key)
            .output()
            .unwrap();
        let said = crate::program::said(&checked);
        assert_eq!(said.status, 0, "{}\n{text}", said.error);
        assert!(said.output.contains(
            "outbox: default by service-bus:shop.servicebus.windows.net; inbox: payments/ordering"
        ));
    }
}
