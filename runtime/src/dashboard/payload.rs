//! What is shown of payloads, headers and errors.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use maud::{Markup, html};

use super::words::{count, visible};

/// More of a body than this is not shown.
const SHOWN: usize = 64 * 1024;
/// And of one that is not text.
const SHOWN_RAW: usize = 512;

/// Something of an event that may be personal: what [`redact`](super::Dashboard::redact) is asked about.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Private<'a> {
    /// A body; one that isn't text as hexadecimal digits.
    Body {
        /// The event's name.
        event: &'a str,
        /// The body.
        text: &'a str,
    },
    /// A header.
    Header {
        /// The event's name.
        event: &'a str,
        /// The header's name.
        name: &'a str,
        /// Its value.
        value: &'a str,
    },
    /// What went wrong last, in the words of a handler, a database or a broker, which may repeat what they were given; with
    /// the reasons of operators, a line each.
    Error {
        /// The event's name.
        event: &'a str,
        /// The text.
        text: &'a str,
    },
}

type Hook = dyn Fn(Private<'_>) -> String + Send + Sync;

#[derive(Clone, Default)]
pub(super) struct Payloads {
    hidden: bool,
    errors_hidden: bool,
    hook: Option<Arc<Hook>>,
}

impl fmt::Debug for Payloads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Payloads")
            .field("hidden", &self.hidden)
            .field("errors_hidden", &self.errors_hidden)
            .field("redacted", &self.hook.is_some())
            .finish()
    }
}

impl Payloads {
    pub(super) const fn hide(&mut self) {
        self.hidden = true;
    }

    pub(super) const fn hide_errors(&mut self) {
        self.errors_hidden = true;
    }

    /// Whether errors are looked for: what isn't shown must not be guessed, either.
    pub(super) const fn are_errors_shown(&self) -> bool {
        !self.errors_hidden
    }

    pub(super) fn redact(&mut self, hook: impl Fn(Private<'_>) -> String + Send + Sync + 'static) {
        self.hook = Some(Arc::new(hook));
    }

    fn shown(&self, private: Private<'_>) -> String {
        let plain = match private {
            Private::Body { text, .. } => text,
            Private::Header { value, .. } => value,
            Private::Error { text, .. } => text,
        };
        let Some(hook) = &self.hook else { return plain.to_owned() };
        // It was not looked at to its end, so nothing of it is shown.
        std::panic::catch_unwind(AssertUnwindSafe(|| hook(private)))
            .unwrap_or_else(|_| "(not shown: the hook that redacts it has panicked)".to_owned())
    }

    /// What went wrong last.
    pub(super) fn error(&self, event: &str, text: &str) -> Markup {
        if self.errors_hidden {
            return html! { span.muted { "Errors are not shown here." } };
        }
        html! { div.error { (visible(&self.shown(Private::Error { event, text }))) } }
    }

    /// A body, as JSON if it is some.
    pub(super) fn body(&self, event: &str, data: Option<&[u8]>) -> Markup {
        let Some(data) = data else {
            return html! { p.muted { "Retention has taken the body." } };
        };
        if self.hidden {
            return html! { p.muted { "Payloads are not shown here (" (count(data.len() as u64, "byte", "bytes")) ")." } };
        }
        let (text, kind) = match std::str::from_utf8(data) {
            Ok(text) => (self.shown(Private::Body { event, text }), "text"),
            Err(_) => {
                let digits: String = data.iter().take(SHOWN_RAW).map(|byte| format!("{byte:02x} ")).collect();
                (self.shown(Private::Body { event, text: &digits }), "not text; the first bytes")
            }
        };
        let json = serde_json::from_str::<serde::de::IgnoredAny>(&text).ok().map(|_| indented(&text));
        let kind = if json.is_some() { "JSON" } else { kind };
        let text = json.unwrap_or(text);
        let end = text.floor_char_boundary(SHOWN);
        html! {
            p.muted { (count(data.len() as u64, "byte", "bytes")) ", " (kind) @if self.hook.is_some() { ", redacted" } }
            pre tabindex="0" aria-label="Payload" { (visible(&text[..end])) }
            @if end < text.len() { p.muted { "Only its beginning is shown." } }
        }
    }

    /// The headers, from the JSON text that the table has.
    pub(super) fn headers(&self, event: &str, headers: &str) -> Markup {
        if self.hidden {
            return html! { p.muted { "Headers are not shown here." } };
        }
        let parsed = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(headers);
        let Ok(parsed) = parsed else {
            let text = self.shown(Private::Header { event, name: "", value: headers });
            return html! { pre tabindex="0" aria-label="Headers" { (visible(&text)) } };
        };
        if parsed.is_empty() {
            return html! { p.muted { "It has none." } };
        }
        html! {
            dl.facts {
                @for (name, value) in &parsed {
                    @let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                    dt.mono { (visible(name)) }
                    dd.mono { (visible(&self.shown(Private::Header { event, name, value: &value }))) }
                }
            }
        }
    }
}

/// JSON on lines of its own. Nothing but its white space changes: no number is rounded, no key moved, no repeated one lost.
fn indented(json: &str) -> String {
    let (mut out, mut depth, mut in_text, mut escaped) =
        (String::with_capacity(json.len() * 2), 0_usize, false, false);
    for char in json.chars() {
        if in_text {
            out.push(char);
            in_text = escaped || char != '"';
            escaped = char == '\\' && !escaped;
            continue;
        }
        match char {
            '"' => {
                in_text = true;
                out.push(char);
            }
            '{' | '[' => {
                depth += 1;
                out.push(char);
                line(&mut out, depth);
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                // An empty one stays on its line.
                let is_empty = out.trim_end().ends_with(if char == '}' { '{' } else { '[' });
                out.truncate(out.trim_end().len());
                if !is_empty {
                    line(&mut out, depth);
                }
                out.push(char);
            }
            ',' => {
                out.push(char);
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            char if char.is_ascii_whitespace() => {}
            char => out.push(char),
        }
    }
    out
}

fn line(out: &mut String, depth: usize) {
    out.push('\n');
    // Deeper than anybody reads, the indentation alone would be more than the text.
    out.extend(std::iter::repeat_n(' ', 2 * depth.min(32)));
}

#[cfg(test)]
mod tests {
    use super::indented;

    #[test]
    fn json_is_indented_and_stays_what_it_was() {
        let json = r#"{"b":12345678901234567890123,"a":[1,{"x":"a\\\"{,}: "}],"a":[ ],"c":{}}"#;
        let expected = "{\n  \"b\": 12345678901234567890123,\n  \"a\": [\n    1,\n    {\n      \"x\": \"a\\\\\\\"{,}: \"\n    }\n  ],\n  \"a\": [],\n  \"c\": {}\n}";
        assert_eq!(indented(json), expected);
        assert_eq!(indented(expected), expected);
        assert_eq!(indented("\"}\\\\\""), "\"}\\\\\"");
    }
}
