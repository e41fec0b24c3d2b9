//! The REST data plane.

use std::time::Duration;

use serde_json::{Value, json};
use servicebus_emulator::model::{EntityPath, ReceiveMode};

use super::client::{Answer, Emulator, entry};

async fn with_queue(elements: &str) -> Emulator {
    let emulator = Emulator::start().await;
    emulator.ask("PUT", "q", &[], &entry("QueueDescription", elements)).await.expect(201);
    emulator
}

impl Emulator {
    async fn post(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.ask("POST", path, headers, body).await
    }

    async fn lock(&self) -> Answer {
        self.post("q/messages/head?timeout=0", &[], b"").await
    }
}

fn broker(answer: &Answer) -> Value {
    serde_json::from_str(answer.header("brokerproperties")).unwrap()
}

/// Where a locked message is settled, as a path.
fn location(answer: &Answer) -> &str {
    answer.header("location").splitn(4, '/').nth(3).unwrap()
}

#[tokio::test]
async fn what_is_sent_is_received() {
    let emulator = with_queue("").await;
    let sent = json!({
        "MessageId": "m-1", "CorrelationId": "c", "Label": "l\u{fc}", "SessionId": "s", "PartitionKey": "s",
        "ReplyTo": "r", "ReplyToSessionId": "rs", "To": "t", "TimeToLive": 90.5, "Unknown": [1],
    });
    let headers = [
        ("BrokerProperties", sent.to_string()),
        ("Content-Type", "application/json".into()),
        ("Color", "\"r\u{f6}t \\u00fc\"".into()),
        ("Count", "7".into()),
        ("Big", "9007199254740993".into()),
        ("Ratio", "1.5".into()),
        ("Fresh", "true".into()),
        ("Plain", "just text".into()),
        ("Accept-Encoding", "gzip".into()),
    ];
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    emulator.post("q/messages", &headers, b"{\"a\": 1}").await.expect(201);

    let received = emulator.lock().await.expect(201);
    assert_eq!(received.body, "{\"a\": 1}");
    assert_eq!(received.header("content-type"), "application/json");
    assert_eq!(received.header("color"), "\"r\\u00f6t \\u00fc\"");
    for (name, value) in [("count", "7"), ("big", "9007199254740993"), ("ratio", "1.5"), ("fresh", "true")] {
        assert_eq!(received.header(name), value);
    }
    assert_eq!(received.header("plain"), "\"just text\"");
    assert!(!received.has("accept-encoding"));
    let mut properties = broker(&received);
    let token = properties["LockToken"].take();
    assert!(location(&received).ends_with(token.as_str().unwrap()), "{received:?}");
    let mut expected = sent.clone();
    expected.as_object_mut().unwrap().remove("Unknown");
    for (key, value) in json!({
        "DeliveryCount": 1, "EnqueuedSequenceNumber": 1, "SequenceNumber": 1, "State": "Active", "LockToken": null,
        "EnqueuedTimeUtc": "Mon, 23 Nov 2026 18:41:06 GMT", "LockedUntilUtc": "Mon, 23 Nov 2026 18:42:06 GMT",
    })
    .as_object()
    .unwrap()
    {
        expected[key] = value.clone();
    }
    assert_eq!(properties, expected);
}

#[tokio::test]
async fn a_locked_message_is_completed_unlocked_or_renewed() {
    let emulator = with_queue("").await;
    emulator.post("q/messages", &[], b"one").await.expect(201);
    let first = emulator.lock().await.expect(201);
    // Nobody else gets it meanwhile.
    emulator.lock().await.expect(204);
    emulator.clock.advance(Duration::from_secs(59));
    emulator.post(location(&first), &[], b"").await.expect(200);
    emulator.clock.advance(Duration::from_secs(59));
    emulator.lock().await.expect(204);

    emulator.ask("PUT", location(&first), &[], b"").await.expect(200);
    emulator.delete(location(&first)).await.expect(404).with("lock");
    let second = emulator.lock().await.expect(201);
    assert_eq!(broker(&second)["DeliveryCount"], 2);
    emulator.clock.advance(Duration::from_secs(61));
    emulator.post(location(&second), &[], b"").await.expect(404);

    let third = emulator.lock().await.expect(201);
    assert_eq!(broker(&third)["DeliveryCount"], 3);
    emulator.delete(location(&third)).await.expect(200);
    emulator.delete(location(&third)).await.expect(404);
    emulator.lock().await.expect(204);
}

#[tokio::test]
async fn receive_and_delete_takes_it_at_once() {
    let emulator = with_queue("").await;
    emulator.post("q/messages", &[], b"gone").await.expect(201);
    let received = emulator.delete("q/messages/head?timeout=0").await.expect(200);
    assert_eq!(received.body, "gone");
    assert!(!received.has("location") && broker(&received)["LockToken"].is_null());
    emulator.delete("q/messages/head?timeout=0").await.expect(204);
}

#[tokio::test]
async fn a_receiver_waits_for_a_message() {
    let emulator = with_queue("").await;
    let (received, _) = tokio::join!(emulator.post("q/messages/head?timeout=60", &[], b""), async {
        emulator.post("q/messages", &[], b"late").await.expect(201)
    });
    assert_eq!(received.expect(201).body, "late");
}

#[tokio::test]
async fn a_batch_is_sent_whole_or_not_at_all() {
    let emulator = with_queue("").await;
    let kind = [("Content-Type", "application/vnd.microsoft.servicebus.json; charset=utf-8")];
    let batch = json!([
        {"Body": "one", "BrokerProperties": {"Label": "a", "TimeToLive": "10"}, "UserProperties": {"Key": "v", "N": 1}},
        {"Body": "tw\u{f6}"},
        {},
    ]);
    emulator.post("q/messages", &kind, batch.to_string().as_bytes()).await.expect(201);
    let first = emulator.lock().await.expect(201);
    assert_eq!((first.body.as_str(), broker(&first)["Label"].as_str()), ("one", Some("a")));
    assert_eq!(broker(&first)["TimeToLive"], 10.0);
    assert_eq!((first.header("key"), first.header("n")), ("\"v\"", "1"));
    assert_eq!(emulator.lock().await.expect(201).body, "tw\u{f6}");
    assert_eq!(emulator.lock().await.expect(201).body, "");

    for (wrong, why) in [
        ("", "not a JSON list"),
        ("{}", "not a JSON list"),
        ("[]", "no messages"),
        ("[{}, 1]", "Message 1 of the batch"),
        ("[{\"Body\": 1}]", "Body is not a string"),
        ("[{\"BrokerProperties\": 1}]", "BrokerProperties is not an object"),
        ("[{\"UserProperties\": {\"a\": []}}]", "`a` is not a simple value"),
        ("[{}, {\"BrokerProperties\": {\"TimeToLive\": -1}}]", "TimeToLive"),
    ] {
        emulator.post("q/messages", &kind, wrong.as_bytes()).await.expect(400).with(why);
    }
    emulator.lock().await.expect(204);
}

#[tokio::test]
async fn a_scheduled_message_comes_in_time() {
    let emulator = with_queue("").await;
    for (time, body) in [("Mon, 23 Nov 2026 18:43:00 GMT", "a"), ("Mon, 23 Nov 2026 18:43:00 +0000", "b")] {
        let properties = json!({"ScheduledEnqueueTimeUtc": time}).to_string();
        let headers = [("BrokerProperties", properties.as_str())];
        emulator.post("q/messages", &headers, body.as_bytes()).await.expect(201);
    }
    emulator.lock().await.expect(204);
    emulator.clock.advance(Duration::from_secs(120));
    assert_eq!(emulator.lock().await.expect(201).body, "a");
    assert_eq!(emulator.lock().await.expect(201).body, "b");
}

#[tokio::test]
async fn topics_fan_out_and_dead_letter_queues_are_read_by_path() {
    let emulator = Emulator::start().await;
    emulator.ask("PUT", "t", &[], &entry("TopicDescription", "")).await.expect(201);
    let limit = entry("SubscriptionDescription", "<MaxDeliveryCount>1</MaxDeliveryCount>");
    emulator.ask("PUT", "t/subscriptions/s", &[], &limit).await.expect(201);
    emulator.post("T/messages", &[], b"x").await.expect(201);
    let locked = emulator.post("t/Subscriptions/S/messages/head?timeout=0", &[], b"").await.expect(201);
    emulator.ask("PUT", location(&locked), &[], b"").await.expect(200);
    emulator.post("t/subscriptions/s/messages/head?timeout=0", &[], b"").await.expect(204);
    let dead = "t/subscriptions/s/$DeadLetterQueue/messages/head?timeout=0";
    let dead = emulator.post(dead, &[], b"").await.expect(201);
    assert_eq!(dead.header("deadletterreason"), "\"MaxDeliveryCountExceeded\"");
    emulator.delete(location(&dead)).await.expect(200);
}

#[tokio::test]
async fn the_other_door_sees_what_http_sent() {
    let emulator = with_queue("").await;
    let properties = [("BrokerProperties", "{\"Label\": \"l\"}"), ("Color", "\"red\"")];
    emulator.post("q/messages", &properties, b"body").await.expect(201);
    let queue = EntityPath::parse("q").unwrap();
    let received = emulator.host.receive(queue, None, None, ReceiveMode::ReceiveAndDelete, 1).await.unwrap();
    // properties with a subject, application properties, one data section
    let raw = &received[0].message.raw;
    for part in
        [&b"\x00\x53\x73"[..], b"\xa1\x01l", b"\x00\x53\x74", b"\xa1\x03red", b"\x00\x53\x75\xa0\x04body"]
    {
        assert!(raw.windows(part.len()).any(|window| window == part), "{part:?} in {raw:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_sent_or_received_is_refused() {
    let emulator = with_queue("<RequiresSession>true</RequiresSession>").await;
    emulator.post("nowhere/messages", &[], b"x").await.expect(410);
    emulator.post("nowhere/messages/head?timeout=0", &[], b"").await.expect(410);
    // A session entity is not for HTTP.
    emulator.post("q/messages", &[], b"x").await.expect(400);
    emulator.lock().await.expect(400);
    emulator.post("q/$DeadLetterQueue/messages", &[], b"x").await.expect(400);
    emulator.post("q/messages/head?timeout=soon", &[], b"").await.expect(400).with("timeout");
    emulator.delete("q/messages/1/not-a-token").await.expect(400).with("not-a-token");
    emulator.delete("q/messages/1/7da9cfd5-40d5-4bb1-8d64-ec5a52e1c547").await.expect(404);
    emulator.delete("nowhere/messages/1/7da9cfd5-40d5-4bb1-8d64-ec5a52e1c547").await.expect(410);
    emulator.get("q/messages/head").await.expect(405);
    for (wrong, why) in [
        ("{", "not a JSON object"),
        ("[]", "not a JSON object"),
        ("{\"MessageId\": 1}", "MessageId is not a string"),
        ("{\"TimeToLive\": \"long\"}", "TimeToLive"),
        ("{\"ScheduledEnqueueTimeUtc\": \"soon\"}", "`soon`"),
    ] {
        emulator.post("q/messages", &[("BrokerProperties", wrong)], b"x").await.expect(400).with(why);
    }
}

#[tokio::test]
async fn a_message_above_the_limit_is_refused() {
    let emulator = with_queue("").await;
    emulator.post("q/messages", &[], &vec![b'x'; 256 * 1024 - 500]).await.expect(201);
    // The body alone would do, with its properties it doesn't.
    emulator.post("q/messages", &[], &vec![b'x'; 256 * 1024]).await.expect(403);
    emulator.post("q/messages", &[], &vec![b'x'; 2 * 1024 * 1024]).await.expect(403).with("262144");
    let kind = [("Content-Type", "application/vnd.microsoft.servicebus.json")];
    let batch = json!([{"Body": "x".repeat(200 * 1024)}, {"Body": "x".repeat(200 * 1024)}]).to_string();
    emulator.post("q/messages", &kind, batch.as_bytes()).await.expect(403);
    assert_eq!(emulator.lock().await.expect(201).body.len(), 256 * 1024 - 500);
    emulator.lock().await.expect(204);
}

#[tokio::test]
async fn a_busy_server_says_so_until_it_no_longer_is() {
    let emulator = with_queue("").await;
    emulator.ask("PUT", "other", &[], &entry("QueueDescription", "")).await.expect(201);
    emulator.ask("PUT", "$emulator/server-busy?seconds=5&entity=q", &[], b"").await.expect(200);
    emulator.post("q/messages", &[], b"x").await.expect(503);
    emulator.lock().await.expect(503);
    emulator.post("other/messages", &[], b"x").await.expect(201);
    emulator.clock.advance(Duration::from_secs(5));
    emulator.post("q/messages", &[], b"x").await.expect(201);
    emulator.ask("PUT", "$emulator/server-busy?seconds=5", &[], b"").await.expect(200);
    emulator.post("other/messages", &[], b"x").await.expect(503);
    emulator.ask("PUT", "$emulator/server-busy?seconds=soon", &[], b"").await.expect(400);
    emulator.ask("PUT", "$emulator/server-busy", &[], b"").await.expect(400);
    emulator.get("$emulator/server-busy?seconds=5").await.expect(405);
}

#[tokio::test]
async fn a_name_can_have_any_letters() {
    let emulator = Emulator::start().await;
    let path = "gr%C3%BC%C3%9Fe/%E4%BD%A0";
    let created = emulator.ask("PUT", path, &[], &entry("QueueDescription", "")).await.expect(201);
    created.with("<title type=\"text\">gr\u{fc}\u{df}e/\u{4f60}</title>").with(&format!("/{path}</id>"));
    emulator.post(&format!("{path}/messages"), &[], b"x").await.expect(201);
    let locked = emulator.post(&format!("{path}/messages/head"), &[], b"").await.expect(201);
    assert!(location(&locked).starts_with(path), "{locked:?}");
    emulator.delete(location(&locked)).await.expect(200);
}
