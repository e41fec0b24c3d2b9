//! A run is given secrets that stand nowhere else, and everything it shows is searched for them: what is logged by us and by
//! all that we are built on, spans and their fields, `Debug` forms, errors with their causes, incidents.

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt::{Debug, Display};
use std::process::Command;
use std::sync::Mutex;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

mod capture;
pub mod databases;
pub mod namespaces;

/// Every signed token begins so.
const TOKEN: &str = "SharedAccessSignature sr=";
/// What makes a token one, as it is written in URLs and logs.
const SIGNATURES: [&str; 2] = ["&sig=", "&amp;sig="];

/// Redactions that a run against Service Bus shows the want of.
pub const OF_NAMESPACES: [&str; 2] = ["secret", "config-error"];
/// The same for a run on a database with a password.
pub const OF_DATABASES: [&str; 1] = ["identity"];

/// What a run has shown so far, each piece with its place.
#[derive(Debug, Default)]
pub struct Shown {
    pieces: Mutex<Vec<(String, String)>>,
}

impl Shown {
    /// From now on all that is logged in this process belongs to it.
    pub fn new() -> Self {
        capture::begin();
        Self::default()
    }

    /// Text of a place.
    pub fn text(&self, place: &str, text: impl ToString) {
        self.pieces.lock().unwrap().push((place.to_owned(), text.to_string()));
    }

    /// Both `Debug` forms of a value.
    pub fn debug(&self, what: &str, value: &impl Debug) {
        self.text(&format!("the Debug form of {what}"), format_args!("{value:?}\n{value:#?}"));
    }

    /// An error, and all its causes, in every form.
    pub fn error(&self, what: &str, error: &(dyn Error + 'static)) {
        let mut cause = Some(error);
        while let Some(error) = cause {
            self.text(&format!("the error of {what}"), format_args!("{error}\n{error:?}\n{error:#?}"));
            cause = error.source();
        }
    }

    /// What must have failed.
    pub fn failure<T>(&self, what: &str, result: Result<T, impl Error + 'static>) {
        match result {
            Ok(_) => panic!("{what} succeeded"),
            Err(error) => self.error(what, &error),
        }
    }

    /// A value in the form for people, too.
    pub fn shown(&self, what: &str, value: &(impl Debug + Display)) {
        self.debug(what, value);
        self.text(&format!("the text of {what}"), value);
    }

    /// That none of these secrets is anywhere in it, in any form, nor any signed token.
    pub fn holds_none_of(&self, secrets: &[&str]) {
        let forms: Vec<_> = secrets.iter().copied().chain([TOKEN]).flat_map(forms).collect();
        let mut pieces = self.pieces.lock().unwrap().clone();
        pieces.extend(capture::logged());
        for (place, text) in &pieces {
            let text = &format!("{text}{}", decoded(text));
            let found = forms.iter().map(String::as_str).chain(SIGNATURES).find(|form| text.contains(form));
            if let Some(form) = found {
                let at = text.find(form).unwrap_or_default();
                let from = text.floor_char_boundary(at.saturating_sub(200));
                let to = text.ceil_char_boundary((at + form.len() + 100).min(text.len()));
                panic!("a secret is shown by {place}: …{}…", &text[from..to]);
            }
        }
    }

    /// That something was logged from there: a search of nothing finds nothing.
    pub fn has_logs_of(&self, targets: &[&str]) {
        let all: BTreeSet<_> = capture::logged().into_iter().map(|(place, _)| place).collect();
        for target in targets {
            let place = format!("the log of {target}");
            assert!(
                all.iter().any(|from| from.starts_with(&place)),
                "nothing was logged by {target}: {all:#?}"
            );
        }
    }
}

/// What is left of a text when it is no part of a URL any more; nothing where it was none. Whoever writes one escapes what
/// they think fit.
fn decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    if bytes.len() == text.len() {
        return String::new();
    }
    for part in parts {
        let escaped = part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.extend(escaped.or(Some(b'%')));
        bytes.extend(part.as_bytes().iter().skip(if escaped.is_some() { 2 } else { 0 }));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A secret as it may be written: as it is, in base64 at whatever offset, as hexadecimal digits, as a list of bytes.
fn forms(secret: &str) -> Vec<String> {
    let bytes = secret.as_bytes();
    let hex = |separator: &str| bytes.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(separator);
    let list = bytes.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
    let mut all = vec![secret.to_owned(), hex(""), hex("").to_uppercase(), hex(" "), list];
    for engine in [&STANDARD, &URL_SAFE] {
        for offset in 0..3 {
            let text = engine.encode([&b"..."[..offset], bytes].concat());
            // The first and the last characters hold bits of what stands beside it.
            let (from, to) = (if offset == 0 { 0 } else { offset + 1 }, text.trim_end_matches('=').len() - 1);
            all.push(text[from..to].to_owned());
        }
    }
    all
}

/// Runs a test of the same program without one redaction; it must find what is shown then, in one of these places.
pub fn fails_without(redaction: &str, test: &str, places: &[&str]) {
    let own = std::env::current_exe().unwrap();
    let ran = Command::new(own)
        .args(["--exact", test, "--nocapture"])
        .env("DISTRIBUTED_EVENTS_BREAK", redaction)
        .output()
        .unwrap();
    let said = [ran.stdout, ran.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    let failed = said.contains("1 failed") && !ran.status.success();
    assert!(failed, "without {redaction} nothing is found: {said}");
    let named = places.iter().any(|place| said.contains(&format!("a secret is shown by {place}")));
    assert!(named, "without {redaction} another place is named than {places:?}: {said}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_found_in_every_form() {
        let secret = "canary+key/of==mine";
        for text in [
            "key=canary+key/of==mine;".to_owned(),
            "key=canary%2Bkey%2Fof%3D%3Dmine".to_owned(),
            "key=canary%2bkey%2fof%3d%3dmine".to_owned(),
            "100% of key=canary+key/of=%3Dmine".to_owned(),
            STANDARD.encode(format!("user:{secret}:")),
            STANDARD.encode(format!("me:{secret}")),
            URL_SAFE.encode(format!("root:{secret}?")),
            format!("{:?}", format!("<{secret}>").as_bytes()),
            "63616e6172792b6b65792f6f663d3d6d696e65".to_owned(),
        ] {
            let shown = Shown::default();
            shown.text("a place", &text);
            let found =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| shown.holds_none_of(&[secret])));
            assert!(found.is_err(), "{text}");
        }
        let shown = Shown::default();
        shown.text("a place", "canary key of mine, Y2FuYXJ5");
        shown.holds_none_of(&[secret]);
    }
}
