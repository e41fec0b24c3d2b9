//! Connection strings: what is read is read again the same, and a key is never shown, whatever else is wrong.
#![no_main]

use distributed_events::broker::service_bus::fuzzing::connection;
use libfuzzer_sys::fuzz_target;

const CANARY: &str = "q2FuYXJ5LWtleQ+/==";

fuzz_target!(|text: &str| {
    // A key that stands elsewhere, too, is no secret.
    if text.contains(CANARY) {
        return;
    }
    // The text stands for itself, and around a key.
    let (before, after) = text.split_once('|').unwrap_or((text, ""));
    let spoilt = format!("{before};SharedAccessKey={CANARY};{after}");
    for text in [text, &spoilt] {
        match connection(text) {
            Ok(read) => {
                assert!(read.key != CANARY || !read.shown.contains(CANARY), "{}", read.shown);
                assert!(!read.host.is_empty() && !read.key_name.is_empty() && !read.key.is_empty());
                let port = read.port.map(|port| format!(":{port}")).unwrap_or_default();
                let emulator = if read.emulator { "true" } else { "false" };
                let again = format!(
                    "SharedAccessKey={};UseDevelopmentEmulator={emulator};Endpoint=SB://{}{port}/;sharedaccesskeyname={}",
                    read.key, read.host, read.key_name
                );
                assert_eq!(connection(&again).as_ref(), Ok(&read));
            }
            Err(error) => {
                let shown = format!("{error} {error:?}");
                assert!(!shown.contains(CANARY), "{shown}");
                // What a form for debugging escapes gets longer.
                assert!(!error.to_string().is_empty() && shown.len() <= 12 * text.len() + 512);
            }
        }
    }
});
