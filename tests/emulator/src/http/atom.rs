//! Atom as the management API speaks it: an entry for one thing, a feed for many, a description inside.

mod describe;
mod fields;
mod rules;
mod values;

pub(crate) use describe::{queue, subscription, topic};
pub(crate) use fields::{read_queue, read_subscription, read_topic};
pub(crate) use rules::{default_rule, read_rule, rule};

use super::dates;
use super::xml::{Element, Writer, XSI};
use crate::model::Condition::ArgumentError;
use crate::model::{Fault, Time};

/// <http://www.w3.org/2005/Atom>
const ATOM: &str = "http://www.w3.org/2005/Atom";
/// Of everything that Service Bus describes.
const SERVICE_BUS: &str = "http://schemas.microsoft.com/netservices/2010/10/servicebus/connect";
/// Of the children of `CountDetails`.
const COUNTS: &str = "http://schemas.microsoft.com/netservices/2011/06/servicebus";

/// What the `api-version` of a request allows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Version {
    /// `MaxMessageSizeInKilobytes`, since 2021-05.
    pub(crate) large_messages: bool,
    /// `SqlFilterCount` and `CorrelationFilterCount`, since 2024-05.
    pub(crate) filter_counts: bool,
}

impl Version {
    /// Versions are dates; none is the newest.
    #[must_use]
    pub(crate) fn new(version: Option<&str>) -> Self {
        let since = |first: &str| version.is_none_or(|version| version >= first);
        Self { large_messages: since("2021-05"), filter_counts: since("2024-05") }
    }
}

/// One thing, where it is found and what is in it.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Its URL, with the entity's name as it was created.
    pub(crate) url: String,
    /// Its name.
    pub(crate) title: String,
    /// When it was created.
    pub(crate) published: Time,
    /// When it was changed.
    pub(crate) updated: Time,
    /// The description, written.
    pub(crate) content: String,
}

impl Entry {
    /// As a document of its own.
    #[must_use]
    pub(crate) fn document(&self) -> String {
        let mut writer = Writer::document();
        self.write(&mut writer);
        writer.finish()
    }

    fn write(&self, writer: &mut Writer) {
        writer.element("entry", &[("xmlns", ATOM)], |writer| {
            writer.text("id", &[], &self.url);
            writer.text("title", &[("type", "text")], &self.title);
            writer.text("published", &[], &dates::iso(self.published));
            writer.text("updated", &[], &dates::iso(self.updated));
            writer.empty("link", &[("rel", "self"), ("href", &self.url)]);
            writer.element("content", &[("type", "application/xml")], |writer| writer.raw(&self.content));
        });
    }
}

/// Many things. Clients take the second link for the way to the next page, so there is one only when there is one.
#[must_use]
pub(crate) fn feed(url: &str, title: &str, now: Time, entries: &[Entry], next: Option<&str>) -> String {
    let mut writer = Writer::document();
    writer.element("feed", &[("xmlns", ATOM)], |writer| {
        writer.text("id", &[], url);
        writer.text("title", &[("type", "text")], title);
        writer.text("updated", &[], &dates::iso(now));
        writer.empty("link", &[("rel", "self"), ("href", url)]);
        if let Some(next) = next {
            writer.empty("link", &[("rel", "next"), ("href", next)]);
        }
        for entry in entries {
            entry.write(writer);
        }
    });
    writer.finish()
}

/// `$namespaceinfo`
#[must_use]
pub(crate) fn namespace(name: &str, created: Time) -> String {
    description("NamespaceInfo", |writer| {
        writer.text("CreatedTime", &[], &dates::iso(created));
        writer.text("MessagingSKU", &[], "Standard");
        writer.text("ModifiedTime", &[], &dates::iso(created));
        writer.text("Name", &[], name);
        writer.text("NamespaceType", &[], "Messaging");
    })
}

/// The description within an entry that a client sent.
pub(crate) fn content(document: &[u8], kinds: &[&str]) -> Result<Element, Fault> {
    let wrong = |why: String| Fault::new(ArgumentError, format!("The request's body is not valid: {why}."));
    let entry = Element::parse(document).map_err(wrong)?;
    if !entry.name.is(ATOM, "entry") {
        return Err(wrong(format!("the root is not `entry` of {ATOM}")));
    }
    let content = entry
        .children
        .into_iter()
        .find(|child| child.name.is(ATOM, "content"))
        .ok_or_else(|| wrong(format!("`entry` has no `content` of {ATOM}")))?;
    content
        .children
        .into_iter()
        .find(|child| kinds.iter().any(|kind| child.name.is(SERVICE_BUS, kind)))
        .ok_or_else(|| wrong(format!("`content` has no {} of {SERVICE_BUS}", kinds.join(" or "))))
}

fn description(kind: &str, inside: impl FnOnce(&mut Writer)) -> String {
    let mut writer = Writer::default();
    writer.element(kind, &[("xmlns", SERVICE_BUS), ("xmlns:i", XSI)], inside);
    writer.finish()
}
