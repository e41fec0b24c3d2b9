//! The management API.

use super::client::{Emulator, entry};

const UPDATE: (&str, &str) = ("If-Match", "*");

#[tokio::test]
async fn a_queue_is_created_read_updated_and_deleted() {
    let emulator = Emulator::start().await;
    let body =
        entry("QueueDescription", "<LockDuration>PT30S</LockDuration><MaxDeliveryCount>3</MaxDeliveryCount>");
    let created = emulator.ask("PUT", "Orders?api-version=2021-05", &[], &body).await.expect(201);
    assert_eq!(created.header("content-type"), "application/atom+xml;type=entry;charset=utf-8");
    // Defaults are filled in, and names stay as they were written.
    created
        .with("<title type=\"text\">Orders</title>")
        .with("<LockDuration>PT30S</LockDuration>")
        .with("<MaxSizeInMegabytes>1024</MaxSizeInMegabytes>")
        .with("<DefaultMessageTimeToLive>P10675199DT2H48M5.4775807S</DefaultMessageTimeToLive>")
        .with("<Status>Active</Status>")
        .with("<CreatedAt>2026-11-23T18:41:06.125Z</CreatedAt>")
        .without("ForwardTo");
    emulator.ask("PUT", "orders", &[], &body).await.expect(409).with("<Code>409</Code>");

    let got = emulator.get("orders?api-version=2021-05").await.expect(200);
    got.with("<MaxDeliveryCount>3</MaxDeliveryCount>").with("/Orders?api-version=2021-05</id>");

    // An update replaces everything: what it doesn't name has its default again.
    let body = entry("QueueDescription", "<MaxDeliveryCount>7</MaxDeliveryCount>");
    let updated = emulator.ask("PUT", "Orders", &[UPDATE], &body).await.expect(200);
    updated.with("<MaxDeliveryCount>7</MaxDeliveryCount>").with("<LockDuration>PT1M</LockDuration>");

    emulator.delete("ORDERS").await.expect(200);
    emulator.delete("Orders").await.expect(404).with("<Code>404</Code>");
    emulator.ask("PUT", "Orders", &[UPDATE], &body).await.expect(404);
    // Service Bus says so of a queue or topic that isn't there.
    emulator.get("Orders").await.expect(200).with("<feed").without("<entry");
}

#[tokio::test]
async fn settings_that_cannot_change_or_be_are_refused() {
    let emulator = Emulator::start().await;
    let plain = entry("QueueDescription", "");
    emulator.ask("PUT", "q", &[], &plain).await.expect(201);
    let sessions = entry("QueueDescription", "<RequiresSession>true</RequiresSession>");
    emulator.ask("PUT", "q", &[UPDATE], &sessions).await.expect(400).with("RequiresSession");
    let wrong = entry(
        "QueueDescription",
        "<LockDuration>PT10M</LockDuration><MaxDeliveryCount>many</MaxDeliveryCount><Status>Off</Status>",
    );
    // All that can't be read at once; what is out of bounds then.
    emulator.ask("PUT", "q2", &[], &wrong).await.expect(400).with("MaxDeliveryCount").with("Status");
    let wrong =
        entry("QueueDescription", "<LockDuration>PT10M</LockDuration><MaxDeliveryCount>0</MaxDeliveryCount>");
    emulator.ask("PUT", "q2", &[], &wrong).await.expect(400).with("LockDuration").with("MaxDeliveryCount");
    let elsewhere = entry("QueueDescription", "<ForwardTo>sb://localhost/nowhere</ForwardTo>");
    emulator.ask("PUT", "q2", &[], &elsewhere).await.expect(400).with("nowhere");
    emulator.get("q2").await.expect(200).without("<entry");
}

#[tokio::test]
async fn a_later_setting_needs_a_later_version() {
    let emulator = Emulator::start().await;
    let body = entry("QueueDescription", "<MaxMessageSizeInKilobytes>512</MaxMessageSizeInKilobytes>");
    let old = "q?api-version=2017-04";
    emulator.ask("PUT", old, &[], &body).await.expect(400).with("MaxMessageSizeInKilobytes");
    emulator.ask("PUT", "q?api-version=2021-05", &[], &body).await.expect(201);
    emulator.get(old).await.expect(200).without("MaxMessageSizeInKilobytes");
    let size = "<MaxMessageSizeInKilobytes>512</MaxMessageSizeInKilobytes>";
    emulator.get("q?api-version=2021-05").await.expect(200).with(size);
    emulator.ask("PUT", "t", &[], &entry("TopicDescription", "")).await.expect(201);
    emulator.get("t?api-version=2021-05").await.expect(200).without("FilterCount");
    emulator.get("t?api-version=2024-05").await.expect(200).with("<SqlFilterCount>0</SqlFilterCount>");
}

#[tokio::test]
async fn forwarding_targets_are_shown_as_urls() {
    let emulator = Emulator::start().await;
    emulator.ask("PUT", "target", &[], &entry("QueueDescription", "")).await.expect(201);
    for (name, written) in [("a", "target"), ("b", "sb://elsewhere.example/Target")] {
        let elements = format!(
            "<ForwardTo>{written}</ForwardTo><ForwardDeadLetteredMessagesTo>{written}</ForwardDeadLetteredMessagesTo>"
        );
        let created = emulator.ask("PUT", name, &[], &entry("QueueDescription", &elements)).await.expect(201);
        let shown = format!("sb://{}/{}", emulator.address, written.rsplit('/').next().unwrap());
        created
            .with(&format!("<ForwardTo>{shown}</ForwardTo>"))
            .with(&format!("<ForwardDeadLetteredMessagesTo>{shown}</ForwardDeadLetteredMessagesTo>"));
    }
}

#[tokio::test]
async fn lists_come_in_pages() {
    let emulator = Emulator::start().await;
    for number in 0..5 {
        emulator.ask("PUT", &format!("q{number}"), &[], &entry("QueueDescription", "")).await.expect(201);
    }
    emulator.ask("PUT", "t", &[], &entry("TopicDescription", "")).await.expect(201);
    let titles = |body: &str| -> Vec<String> {
        let parts = body.split("<title type=\"text\">").skip(2);
        parts.map(|part| part.split('<').next().unwrap().to_owned()).collect()
    };
    let first = emulator.get("$Resources/queues?$skip=0&$top=2").await.expect(200);
    assert_eq!(first.header("content-type"), "application/atom+xml;type=feed;charset=utf-8");
    let first = first.with("rel=\"next\"").with("$skip=2&amp;$top=2");
    assert_eq!(titles(&first.body), ["q0", "q1"]);
    let last = emulator.get("$Resources/Queues?$skip=4&$top=2").await.expect(200).without("rel=\"next\"");
    assert_eq!(titles(&last.body), ["q4"]);
    let exact = emulator.get("$Resources/queues?$skip=3&$top=2").await.expect(200).without("rel=\"next\"");
    assert_eq!(titles(&exact.body), ["q3", "q4"]);
    let topics = emulator.get("$Resources/topics").await.expect(200);
    assert_eq!(titles(&topics.body), ["t"]);
    emulator.get("$Resources/queues?$top=x").await.expect(400).with("$top");
    emulator.get("nothing/subscriptions").await.expect(404);
    emulator.get("t/subscriptions").await.expect(200).without("<entry");
}

#[tokio::test]
async fn subscriptions_and_rules_live_below_their_topic() {
    let emulator = Emulator::start().await;
    let subscription = entry("SubscriptionDescription", "<RequiresSession>true</RequiresSession>");
    emulator.ask("PUT", "t/subscriptions/S", &[], &subscription).await.expect(404);
    emulator.ask("PUT", "t", &[], &entry("TopicDescription", "")).await.expect(201);
    let created = emulator.ask("PUT", "t/subscriptions/S", &[], &subscription).await.expect(201);
    created.with("/t/Subscriptions/S</id>").with("<RequiresSession>true</RequiresSession>");
    let rules = emulator.get("t/subscriptions/s/rules").await.expect(200);
    rules.with("<Name>$Default</Name>").with("i:type=\"TrueFilter\"").with("i:type=\"EmptyRuleAction\"");

    let rule = entry(
        "RuleDescription",
        r#"<Filter i:type="SqlFilter"><SqlExpression>a &gt; @least</SqlExpression><Parameters>
        <KeyValueOfstringanyType><Key>@least</Key>
        <Value i:type="l28:double" xmlns:l28="http://www.w3.org/2001/XMLSchema">2.5</Value></KeyValueOfstringanyType>
        </Parameters></Filter>
        <Action i:type="SqlRuleAction"><SqlExpression>SET sys.Label = 'x'</SqlExpression></Action><Name>R</Name>"#,
    );
    let created = emulator.ask("PUT", "t/subscriptions/S/rules/R", &[], &rule).await.expect(201);
    created
        .with("/t/Subscriptions/S/Rules/R</id>")
        .with("<SqlExpression>a &gt; @least</SqlExpression>")
        .with("<Key>@least</Key>")
        .with(r#"i:type="d6p1:double" xmlns:d6p1="http://www.w3.org/2001/XMLSchema">2.5</Value>"#)
        .with("i:type=\"SqlRuleAction\"");
    emulator.ask("PUT", "t/subscriptions/S/rules/R", &[], &rule).await.expect(409);

    let correlation = entry(
        "RuleDescription",
        "<Filter i:type=\"CorrelationFilter\"><Label>l</Label></Filter><Name>R</Name>",
    );
    let updated = emulator.ask("PUT", "t/subscriptions/S/rules/R", &[UPDATE], &correlation).await.expect(200);
    updated.with("CorrelationFilter").with("<Label>l</Label>").without("SqlRuleAction");
    emulator.get("t?api-version=2024-05").await.expect(200).with("<CorrelationFilterCount>1<");

    emulator.delete("t/subscriptions/S/rules/$Default").await.expect(200);
    emulator.get("t/subscriptions/S/rules/$Default").await.expect(404);
    emulator.delete("t/subscriptions/S/rules/$Default").await.expect(404);
    emulator.delete("t/subscriptions/S").await.expect(200);
    emulator.get("t/subscriptions/S").await.expect(404);
    emulator.ask("PUT", "t/subscriptions/S/rules/R", &[], &rule).await.expect(404);
}

#[tokio::test]
async fn the_first_rule_comes_with_the_subscription() {
    let emulator = Emulator::start().await;
    emulator.ask("PUT", "t", &[], &entry("TopicDescription", "")).await.expect(201);
    let body = entry(
        "SubscriptionDescription",
        "<DefaultRuleDescription><Filter i:type=\"FalseFilter\"/><Name>first</Name></DefaultRuleDescription>",
    );
    emulator.ask("PUT", "t/subscriptions/s", &[], &body).await.expect(201);
    let rules = emulator.get("t/subscriptions/s/rules").await.expect(200);
    rules.with("<Name>first</Name>").with("FalseFilter").without("$Default");
}

#[tokio::test]
async fn values_keep_their_types() {
    let emulator = Emulator::start().await;
    emulator.ask("PUT", "t", &[], &entry("TopicDescription", "")).await.expect(201);
    emulator.ask("PUT", "t/subscriptions/s", &[], &entry("SubscriptionDescription", "")).await.expect(201);
    let values = [
        ("string", "a &amp; b"),
        ("int", "-7"),
        ("long", "9223372036854775807"),
        ("double", "1.5"),
        ("boolean", "true"),
        ("dateTime", "2026-11-23T18:41:06.000Z"),
        ("duration", "PT1H30M"),
    ];
    let pairs: String = values
        .iter()
        .map(|(kind, value)| {
            format!(
                "<KeyValueOfstringanyType><Key>{kind}</Key><Value i:type=\"x:{kind}\" \
                 xmlns:x=\"http://www.w3.org/2001/XMLSchema\">{value}</Value></KeyValueOfstringanyType>"
            )
        })
        .collect();
    let rule = format!(
        "<Filter i:type=\"CorrelationFilter\"><Properties>{pairs}</Properties></Filter><Name>r</Name>"
    );
    let mut created = emulator
        .ask("PUT", "t/subscriptions/s/rules/r", &[], &entry("RuleDescription", &rule))
        .await
        .expect(201);
    for (kind, value) in values {
        created = created.with(&format!(
            "i:type=\"d6p1:{kind}\" xmlns:d6p1=\"http://www.w3.org/2001/XMLSchema\">{value}</Value>"
        ));
    }
}

#[tokio::test]
async fn the_namespace_describes_itself() {
    let emulator = Emulator::start().await;
    let info = emulator.get("$namespaceinfo?api-version=2021-05").await.expect(200);
    info.with("<Name>sbemulatorns</Name>").with("<MessagingSKU>Standard</MessagingSKU>");
}
