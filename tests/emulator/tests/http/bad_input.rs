//! What no client should send, and that the others don't notice.

use super::client::{Emulator, NOW, entry, sign};

async fn is_well(emulator: &Emulator) {
    let health = emulator.ask_plainly("GET", "health", &[], b"").await.expect(200);
    assert_eq!(health.body, r#"{"status":"healthy"}"#);
}

#[tokio::test]
async fn only_a_right_token_for_the_path_opens_the_door() {
    let emulator = Emulator::start().await;
    is_well(&emulator).await;
    let body = entry("QueueDescription", "");
    let missing = emulator.ask_plainly("PUT", "q", &[], &body).await.expect(401).with("MissingToken");
    assert_eq!(missing.header("www-authenticate"), "SharedAccessSignature");
    let good = sign("https://localhost/q", 60);
    for (token, why) in [
        (good.replace("sig=", "sig=A"), "InvalidSignature"),
        (good.replace("skn=Root", "skn=Other"), "InvalidSignature"),
        (sign("https://localhost/q", 0), "ExpiredToken"),
        (sign("https://localhost/q2", 60), "InvalidAudience"),
        (sign("https://localhost/q/below", 60), "InvalidAudience"),
        (String::from("Bearer eyJ0eXAi"), "InvalidToken"),
        (String::new(), "InvalidToken"),
    ] {
        let headers = [("Authorization", token.as_str())];
        emulator
            .ask_plainly("PUT", "q", &headers, &body)
            .await
            .expect(401)
            .with("<Code>401</Code>")
            .with(why);
    }
    let other = [("Authorization", good.as_str()), ("ServiceBusSupplementaryAuthorization", "nonsense")];
    emulator.ask_plainly("PUT", "q", &other, &body).await.expect(401).with("Supplementary");
    emulator.ask_plainly("PUT", "q", &[("Authorization", &good)], &body).await.expect(201);
    emulator.clock.advance(std::time::Duration::from_secs(60));
    assert!(emulator.host.now() > NOW);
    emulator.ask_plainly("GET", "q", &[("Authorization", &good)], b"").await.expect(401).with("ExpiredToken");
    is_well(&emulator).await;
}

#[tokio::test]
async fn bad_xml_is_told_where_it_is_bad() {
    let emulator = Emulator::start().await;
    let bomb = b"<!DOCTYPE x [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;&a;\">]><x>&b;</x>";
    let deep = [b"<a>".repeat(100_000), b"</a>".repeat(100_000)].concat();
    let no_namespace = b"<entry><content><QueueDescription/></content></entry>";
    let bodies: [(&[u8], &str); 10] = [
        (b"", "too early"),
        (b"\xff\xfe\x00", "UTF-8"),
        (b"{\"lock\": 1}", "outside of any element"),
        (b"<entry", "not valid"),
        (bomb, "document types"),
        (&deep, "within each other"),
        (no_namespace, "http://www.w3.org/2005/Atom"),
        (b"<entry xmlns='http://www.w3.org/2005/Atom'/>", "content"),
        (
            b"<entry xmlns='http://www.w3.org/2005/Atom'><content/></entry>",
            "QueueDescription or TopicDescription",
        ),
        (b"<x:entry/>", "prefix `x`"),
    ];
    for (body, why) in bodies {
        emulator.ask("PUT", "q", &[], body).await.expect(400).with("<Code>400</Code>").with(why);
    }
    let topic = entry("TopicDescription", "");
    emulator.ask("PUT", "t/subscriptions/s", &[], &topic).await.expect(400).with("SubscriptionDescription");
    is_well(&emulator).await;
}

#[tokio::test]
async fn bad_rules_are_refused() {
    let emulator = Emulator::start().await;
    emulator.ask("PUT", "t", &[], &entry("TopicDescription", "")).await.expect(201);
    emulator.ask("PUT", "t/subscriptions/s", &[], &entry("SubscriptionDescription", "")).await.expect(201);
    let value = |inside: &str| {
        format!(
            "<Filter i:type=\"CorrelationFilter\"><Properties><KeyValueOfstringanyType>{inside}\
             </KeyValueOfstringanyType></Properties></Filter>"
        )
    };
    let int = "xmlns:x=\"http://www.w3.org/2001/XMLSchema\" i:type=\"x:int\"";
    for (elements, why) in [
        ("<Filter/>", "Filter has no type"),
        ("<Filter i:type=\"LikeFilter\"/>", "LikeFilter"),
        ("<Filter i:type=\"SqlFilter\"/>", "SqlExpression"),
        ("<Filter i:type=\"SqlFilter\"><SqlExpression>a =</SqlExpression></Filter>", ""),
        ("<Action i:type=\"SqlRuleAction\"><SqlExpression>DROP x</SqlExpression></Action>", ""),
        ("<Name>other</Name>", "Name"),
        (&value("<Key>k</Key>"), "no Value"),
        (&value("<Value/>"), "no Key"),
        (&value("<Key>k</Key><Value>1</Value>"), "no type"),
        (&value(&format!("<Key>k</Key><Value {int}>one</Value>")), "`one` is not of type int"),
        (&value("<Key>k</Key><Value i:type=\"y:int\">1</Value>"), "prefix `y`"),
        (&value(&format!("<Key>k</Key><Value {}>1</Value>", int.replace("x:int", "x:QName"))), "QName"),
    ] {
        let body = entry("RuleDescription", elements);
        emulator.ask("PUT", "t/subscriptions/s/rules/r", &[], &body).await.expect(400).with(why);
    }
    emulator.get("t/subscriptions/s/rules").await.expect(200).with("$Default").without("<Name>r</Name>");
}

#[tokio::test]
async fn bad_names_and_methods_are_refused() {
    let emulator = Emulator::start().await;
    let queue = entry("QueueDescription", "");
    let long = "x".repeat(300);
    for path in ["", "-q", "a%20b", "a//b", "q/$DeadLetterQueue", "$cbs", "a%3Cb", &long] {
        emulator.ask("PUT", path, &[], &queue).await.expect(400).with("<Code>400</Code>");
    }
    emulator.ask("PUT", "q%FF", &[], &queue).await.expect(400).with("UTF-8");
    emulator.ask("PUT", "t/subscriptions/s/rules/r/more", &[], &queue).await.expect(404);
    let long = "x".repeat(51);
    emulator.ask("PUT", "t", &[], &entry("TopicDescription", "")).await.expect(201);
    let subscription = entry("SubscriptionDescription", "");
    emulator.ask("PUT", &format!("t/subscriptions/{long}"), &[], &subscription).await.expect(400);
    emulator.ask("PUT", "t/subscriptions/s", &[], &subscription).await.expect(201);
    let rule = entry("RuleDescription", "");
    for name in [long.as_str(), "a%3F"] {
        emulator.ask("PUT", &format!("t/subscriptions/s/rules/{name}"), &[], &rule).await.expect(400);
    }
    let refused = emulator.ask("PATCH", "q", &[], b"").await.expect(405);
    assert_eq!(refused.header("allow"), "GET, PUT, DELETE");
    assert_eq!(emulator.ask("PUT", "$namespaceinfo", &[], b"").await.expect(405).header("allow"), "GET");
    emulator.ask("POST", "health", &[], b"").await.expect(405);
}

#[tokio::test]
async fn a_huge_body_is_refused_with_an_answer() {
    let emulator = Emulator::start().await;
    let huge = vec![b' '; 5 * 1024 * 1024];
    emulator.ask("PUT", "q", &[], &huge).await.expect(413).with("1048576");
    // Told in advance: nobody need send it.
    let token = sign("https://localhost", 60);
    let request = format!(
        "PUT /q HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\nContent-Length: 99999999999\r\n\
         Connection: close\r\n\r\n"
    );
    emulator.exchange(request.as_bytes()).await.expect(413);
    // Without a token nothing of it is read.
    let request = "PUT /q HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\nConnection: close\r\n\r\n";
    emulator.exchange(request.as_bytes()).await.expect(401);
    is_well(&emulator).await;
}

#[tokio::test]
async fn what_is_not_http_gets_an_answer_too() {
    let emulator = Emulator::start().await;
    emulator.exchange(b"AMQP\x00\x01\x00\x00\r\n\r\n").await.expect(400);
    emulator.exchange(b"GET / HTTP/9.9\r\n\r\n").await.expect(400);
    let header = format!("GET /health HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(1024 * 1024));
    emulator.exchange(header.as_bytes()).await.expect(431);
    is_well(&emulator).await;
}
