use super::*;
use crate::model::{Message, Properties};
use uuid::Uuid;

fn message() -> Message {
    let application = [
        ("color", Value::String("red".to_owned())),
        ("Quantity", Value::Int(7)),
        ("price", Value::Double(2.5)),
        ("urgent", Value::Bool(true)),
        ("nothing", Value::Null),
        ("rate", Value::String("50%_x".to_owned())),
        ("and", Value::UByte(1)),
    ];
    Message {
        properties: Properties {
            subject: Some("order".to_owned()),
            message_id: Some("m1".to_owned()),
            ..Properties::default()
        },
        application: application.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        ..Message::default()
    }
}

fn evaluate_on(message: &Message, text: &str) -> Result<Option<bool>, String> {
    let parameters = BTreeMap::from([("@limit".to_owned(), Value::Int(5)), ("name".to_owned(), Value::Null)]);
    let condition = Condition::parse(text, &parameters).map_err(|error| format!("parse: {error}"))?;
    let mut new_id = Uuid::new_v4;
    let mut subject = Subject { message, sequence_number: 12, new_id: &mut new_id };
    evaluate::truth(&condition.0, &mut subject).map_err(|exception| exception.0)
}

#[track_caller]
fn check(expected: Option<bool>, texts: &[&str]) {
    for text in texts {
        assert_eq!(evaluate_on(&message(), text), Ok(expected), "{text}");
    }
}

#[test]
fn what_is_true() {
    check(
        Some(true),
        &[
            "1=1",
            "TRUE",
            "urgent",
            "color = 'red'",
            "COLOR = 'red' and user.quantity = 7",
            "sys.Label = 'order' AND sys.MessageId = 'm1'",
            "quantity + 1 = 8 AND quantity - 1 = 6 AND quantity * 2 = 14 AND quantity / 2 = 3 AND quantity % 4 = 3",
            "quantity / 2.0 = 3.5",
            "-quantity < 0 AND +price > 2",
            "1 + 2 * 3 = 7 AND (1 + 2) * 3 = 9",
            "2.5e0 = price AND 0x10 = 16 AND .5 = 0.5",
            "price <> 2 AND price != 2 AND price <= 2.5 AND price >= 2.5",
            "color IN ('blue', 'red') AND quantity NOT IN (1, 2)",
            "color LIKE 'r%' AND color LIKE '_e_' AND color NOT LIKE 'R%' AND color LIKE '%' AND color LIKE '%e%d%'",
            "rate LIKE '50\\%\\_x' ESCAPE '\\' AND 'abc' NOT LIKE 'a\\%' ESCAPE '\\'",
            "EXISTS(color) AND NOT EXISTS(size) AND EXISTS(nothing)",
            "size IS NULL AND nothing IS NULL AND color IS NOT NULL AND sys.To IS NULL",
            "[color] = 'red' AND \"color\" = 'red' AND user.[and] = 1 AND property(color) = 'red' AND p('color') = 'red'",
            "quantity > @limit AND @name IS NULL",
            "'it''s' = 'it''s' AND 'a' + 'b' = 'ab'",
            "NOT (color = 'blue') AND NOT color = 'blue'",
            "color = 'blue' OR color = 'green' OR color = 'red'",
            "sys.SequenceNumber = 12 AND newid() IS NOT NULL",
            "color = 'x' AND size = 1 OR 1 = 1",
            "color = 1 OR color <> 1",
        ],
    );
}

#[test]
fn what_is_false() {
    check(
        Some(false),
        &[
            "1=0",
            "color = 'Red'",
            "color = 1",
            "NOT urgent",
            "size = 1 AND 1 = 0",
            "color IN ('blue')",
            "'' LIKE '_'",
        ],
    );
}

#[test]
fn what_is_unknown() {
    check(
        None,
        &[
            "size = 1",
            "size <> 1",
            "NOT size = 1",
            "size + 1 = 1 + size",
            "-size = 1",
            "size LIKE '%'",
            "size NOT LIKE '%'",
            "size IN (1)",
            "size NOT IN (1)",
            "color NOT IN ('blue', size)",
            "NULL = NULL",
            "size = 1 OR 1 = 0",
            "size = 1 AND 1 = 1",
            "color < 1",
            "sys.To = 'x'",
        ],
    );
}

#[test]
fn what_makes_no_sense_for_the_message() {
    for text in [
        "sys.Colour = 'red'",
        "quantity / 0 = 1",
        "color - 1 = 1",
        "9223372036854775807 + quantity > 0",
        "quantity",
        "color LIKE 'x\\' ESCAPE '\\'",
        "color LIKE 'x' ESCAPE 'ab'",
        "quantity LIKE '7'",
    ] {
        let error = evaluate_on(&message(), text).unwrap_err();
        assert!(!error.starts_with("parse"), "{text}: {error}");
    }
}

#[test]
fn what_is_no_condition() {
    let deep = format!("{}1=1{}", "(".repeat(65), ")".repeat(65));
    let long = format!("color = '{}'", "x".repeat(1024));
    for text in [
        "",
        "color =",
        "= 1",
        "color = 'red",
        "color == 'red'",
        "(color = 1",
        "color = 1)",
        "color LIKE",
        "color IN ()",
        "color IS 1",
        "foo.color = 1",
        "sys. = 1",
        "EXISTS(1)",
        "color NOT = 1",
        "1 1",
        "@missing = 1",
        "@ = 1",
        "a = 1x",
        "color = 99999999999999999999",
        "color # 1",
        "and = 1",
        "SET color = 1",
        "newid(1) = 1",
        &deep,
        &long,
        &"NOT ".repeat(66),
        &format!("a = {}1", "-".repeat(65)),
    ] {
        let error = evaluate_on(&message(), text).unwrap_err();
        assert!(error.starts_with("parse"), "{text}: {error}");
    }
}

#[test]
fn a_refusal_is_as_short_as_what_is_refused() {
    assert_eq!(
        evaluate_on(&message(), "1 37e230").unwrap_err(),
        "parse: 3.7e231 stands where the end or an operator is expected"
    );
    assert_eq!(
        evaluate_on(&message(), "1 2.5").unwrap_err(),
        "parse: 2.5 stands where the end or an operator is expected"
    );
}

#[test]
fn like_is_quick_on_hostile_patterns() {
    let text = "a".repeat(30_000);
    let pattern = format!("{}b", "%a".repeat(500));
    assert_eq!(like::like(&text, &pattern, None), Some(false));
}

fn run(text: &str) -> Result<Message, String> {
    let action = Action::parse(text, &BTreeMap::new())?;
    let mut message = message();
    action.run(&mut message, 12, &mut Uuid::new_v4).map_err(|exception| exception.0)?;
    Ok(message)
}

#[test]
fn actions_change_the_message_in_order() {
    let changed = run(
        "SET COLOR = 'blue'; SET color2 = color + '!'; REMOVE price; SET sys.Label = quantity + 1; \
         SET sys.To = 'there'; REMOVE sys.MessageId; SET sys.ScheduledEnqueueTimeUtc = 1; REMOVE absent; SET x = NULL;",
    )
    .unwrap();
    assert_eq!(changed.application["color"], Value::String("blue".to_owned()));
    assert_eq!(changed.application["color2"], Value::String("blue!".to_owned()));
    assert_eq!(changed.application["x"], Value::Null);
    assert!(!changed.application.contains_key("price") && !changed.application.contains_key("COLOR"));
    assert_eq!(changed.properties.subject.as_deref(), Some("8"));
    assert_eq!(changed.properties.to.as_deref(), Some("there"));
    assert_eq!((changed.properties.message_id, changed.scheduled_enqueue_time), (None, None));
    let names: Vec<_> = changed.changed_application.iter().map(String::as_str).collect();
    assert_eq!(names, ["absent", "color", "color2", "price", "x"]);
    let doubling = format!("SET x = 'xxxxxxxxxxxxxxxx'{}", "; SET x = x + x".repeat(31));
    assert!(run(&doubling).unwrap_err().contains("longer"));
    assert!(run("SET x = 1 / 0").unwrap_err().contains("zero"));
}

#[test]
fn what_is_no_action() {
    let many = vec!["SET a = 1"; 33].join(";");
    for text in [
        "",
        "color = 1",
        "SET color",
        "SET color = ",
        "SET color = 1 SET x = 2",
        "REMOVE",
        "SET 1 = 1",
        ";",
        "SET sys.SequenceNumber = 1",
        "REMOVE sys.Foo",
        "SET a = 1;;",
        &many,
    ] {
        assert!(run(text).is_err(), "{text}");
    }
}
