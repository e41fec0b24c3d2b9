//! The emulator's SQL: brackets and negation mean what they mean, and what is refused says why.
#![no_main]

use libfuzzer_sys::fuzz_target;
use servicebus_emulator::model::fuzzing::{holds, run};
use servicebus_emulator::model::{Message, Value};

fuzz_target!(|text: &str| {
    let mut message = Message::default();
    for (name, value) in [
        ("a", Value::Long(i64::MIN)),
        ("b", Value::Double(f64::NAN)),
        ("c", Value::String("50%_x".to_owned())),
        ("d", Value::Bool(true)),
        ("e", Value::Null),
    ] {
        message.application.insert(name.to_owned(), value);
    }
    match holds(text, &message) {
        Ok(plain) => {
            assert_eq!(holds(text, &message), Ok(plain.clone()), "{text}");
            // Each is longer and nested deeper, which may be too much.
            if let Ok(bracketed) = holds(&format!("({text})"), &message) {
                assert_eq!(bracketed, plain, "({text})");
            }
            if let Ok(negated) = holds(&format!("NOT ({text})"), &message) {
                assert_eq!(negated.is_ok(), plain.is_ok(), "NOT ({text})");
                // Unknown is neither.
                assert!(!(negated == Ok(true) && plain == Ok(true)), "{text} and its opposite");
            }
        }
        Err(error) => assert!(!error.is_empty() && error.len() <= 4 * text.len() + 200, "{error}"),
    }
    match run(text, &mut message) {
        Ok(ran) => {
            assert!(ran.is_ok_and(|()| true) || message.application.len() >= 4);
            assert!(message.application.len() <= 5 + 32);
        }
        Err(error) => assert!(!error.is_empty() && error.len() <= 4 * text.len() + 200, "{error}"),
    }
});
