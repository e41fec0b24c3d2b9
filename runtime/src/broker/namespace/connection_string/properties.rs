use proptest::prelude::*;

use super::*;

const CANARY: &str = "Y2FuYXJ5IGluIGEgbWluZQ+/==";

/// A key's letters in any case.
fn any_case(word: &'static str) -> impl Strategy<Value = String> {
    prop::collection::vec(any::<bool>(), word.len()).prop_map(move |upper| {
        let cased = word.chars().zip(upper);
        cased.map(|(c, upper)| if upper { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() }).collect()
    })
}

/// `key=value` with blanks where they may stand.
fn part(word: &'static str, value: String) -> impl Strategy<Value = String> {
    (any_case(word), "[ \t]{0,2}", "[ \t]{0,2}", "[ \t\n]{0,2}", "[ \t\n]{0,2}")
        .prop_map(move |(key, a, b, c, d)| format!("{a}{key}{b}={c}{value}{d}"))
}

/// A connection string and what it says.
fn sound() -> impl Strategy<Value = (String, ConnectionString)> {
    let host = "[A-Za-z0-9]([A-Za-z0-9.-]{0,20}[A-Za-z0-9])?";
    let key = "[A-Za-z0-9+/]{1,44}={0,2}";
    (host, any::<Option<u16>>(), "[^;= \t\n\r\\pZ\\pC][^;\\pZ\\pC]{0,20}", key, any::<bool>(), any::<bool>())
        .prop_flat_map(|(host, port, key_name, key, emulator, slash)| {
            let colon = port.map(|port| format!(":{port}")).unwrap_or_default();
            let endpoint = format!("sb://{host}{colon}{}", if slash { "/" } else { "" });
            let said = ConnectionString {
                host: host.to_ascii_lowercase(),
                port,
                key_name: key_name.clone(),
                key: Secret::new(&key),
                emulator,
            };
            let parts = (
                part("Endpoint", endpoint),
                part("SharedAccessKeyName", key_name),
                part("SharedAccessKey", key),
                part("UseDevelopmentEmulator", emulator.to_string()),
                // Keys that nobody knows are none of our business.
                part("TransportType", "AmqpWebSockets".to_owned()),
                "[ ;]{0,3}",
            );
            parts
                .prop_flat_map(|(a, b, c, d, e, ends)| (Just(vec![a, b, c, d, e]).prop_shuffle(), Just(ends)))
                .prop_map(move |(parts, ends)| (format!("{}{ends}", parts.join(";")), said.clone()))
        })
}

/// What people leave behind when they copy.
fn debris() -> impl Strategy<Value = String> {
    let pieces = prop_oneof![
        Just("Endpoint=sb://shop/".to_owned()),
        Just("SharedAccessKeyName=Root".to_owned()),
        Just("EntityPath=orders".to_owned()),
        Just("SharedAccessKey=other".to_owned()),
        Just("UseDevelopmentEmulator=true".to_owned()),
        Just("SharedAccessSignature".to_owned()),
        "[^;]{0,12}",
        "[^;=]{0,8}=[^;]{0,8}",
    ];
    prop::collection::vec(pieces, 0..6).prop_map(|pieces| pieces.join(";"))
}

proptest! {
    #[test]
    fn order_case_and_blanks_say_nothing((text, said) in sound()) {
        let parsed = ConnectionString::parse(&text);
        let shown = format!("{parsed:?}");
        prop_assert_eq!(parsed.as_ref(), Ok(&said), "{}", text);
        prop_assert!(said.key.reveal().len() < 12 || !shown.contains(said.key.reveal()), "{shown}");
    }

    #[test]
    fn a_key_is_never_shown(before in debris(), after in debris(), word in any_case("SharedAccessKey")) {
        match ConnectionString::parse(&format!("{before};{word} = {CANARY};{after}")) {
            Ok(parsed) => {
                prop_assert_eq!(parsed.key.reveal(), CANARY);
                let shown = format!("{parsed:?} {parsed:#?}");
                prop_assert!(!shown.contains(CANARY), "{shown}");
            }
            Err(error) => {
                let shown = format!("{error} {error:?}");
                prop_assert!(!shown.contains(CANARY) && !error.to_string().is_empty(), "{shown}");
            }
        }
    }

    #[test]
    fn hosts_are_hosts_or_refused(text in "\\PC{0,24}|[a-z.]{1,9}:[0-9]{0,7}") {
        if let Some((host, port)) = host_and_port(&text) {
            let shown = port.map_or_else(|| host.clone(), |port| format!("{host}:{port}"));
            prop_assert_eq!(host_and_port(&shown), Some((host.clone(), port)));
            prop_assert!(!host.contains(['/', ':', '@', '?', '#', ' ']));
        }
    }
}
