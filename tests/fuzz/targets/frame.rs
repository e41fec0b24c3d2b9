//! The emulator's frames: what is read is bounded by what came, and reads the same when it is written anew.
#![no_main]

use libfuzzer_sys::fuzz_target;
use servicebus_emulator::amqp::fuzzing::{first, payload, value};

const LARGEST: u32 = 65_536;

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    loop {
        match first(rest, LARGEST) {
            Ok(None) => break,
            Ok(Some((body, length))) => {
                assert!((8..=rest.len()).contains(&length) && body.len() <= length - 8);
                match payload(body) {
                    Ok(payload) => assert!(payload.is_none_or(|payload| body.ends_with(payload))),
                    Err((condition, text)) => assert!(condition.starts_with("amqp:") && told(&text)),
                }
                rest = &rest[length..];
            }
            Err((condition, text)) => {
                assert!(condition == "amqp:connection:framing-error" && told(&text));
                break;
            }
        }
    }
    match value(bytes) {
        Ok((values, written)) => {
            assert!(values <= 8 * bytes.len() + 8 * 4096, "{values} values of {} bytes", bytes.len());
            assert_eq!(value(&written), Ok((values, written.clone())));
        }
        Err(text) => assert!(told(text)),
    }
});

fn told(text: &str) -> bool {
    !text.is_empty() && text.len() < 200
}
