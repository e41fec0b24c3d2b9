//! XML with namespaces, as much of it as Atom needs: elements, attributes and text.

use std::borrow::Cow;

use quick_xml::XmlVersion;
use quick_xml::escape::{escape, resolve_xml_entity};
use quick_xml::events::{BytesStart, Event};
use quick_xml::name::{Namespace, PrefixDeclaration, QName, ResolveResult};
use quick_xml::reader::NsReader;

/// Elements within each other. Text from outside must not decide how deep things get.
const DEEPEST: usize = 32;

/// A name and the namespace that its prefix, or the default, stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    /// Empty for none.
    pub(crate) space: String,
    /// Without a prefix.
    pub(crate) local: String,
}

impl Name {
    /// Whether it is this one.
    #[must_use]
    pub(crate) fn is(&self, space: &str, local: &str) -> bool {
        self.space == space && self.local == local
    }
}

/// An element that was read.
#[derive(Clone, Debug)]
pub(crate) struct Element {
    /// Its name.
    pub(crate) name: Name,
    /// The elements in it.
    pub(crate) children: Vec<Self>,
    /// The text directly in it.
    pub(crate) text: String,
    /// `xsi:type`, resolved: the prefix of its value says which namespace's type is meant.
    pub(crate) kind: Option<Name>,
}

/// <http://www.w3.org/2001/XMLSchema-instance>
pub(crate) const XSI: &str = "http://www.w3.org/2001/XMLSchema-instance";

impl Element {
    /// Reads a document. The error says where and what is wrong.
    pub(crate) fn parse(document: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(document).map_err(|error| format!("not UTF-8: {error}"))?;
        let mut reader = NsReader::from_str(text.trim_start_matches('\u{feff}'));
        let mut open: Vec<Self> = Vec::new();
        loop {
            let at = reader.buffer_position();
            let wrong = |what: &dyn std::fmt::Display| format!("at byte {at}: {what}");
            let event = reader.read_event().map_err(|error| wrong(&error))?;
            let finished = match event {
                Event::Start(start) => {
                    if open.len() == DEEPEST {
                        return Err(wrong(&format!("more than {DEEPEST} elements within each other")));
                    }
                    open.push(element(&reader, &start).map_err(|error| wrong(&error))?);
                    None
                }
                Event::Empty(start) => Some(element(&reader, &start).map_err(|error| wrong(&error))?),
                // The reader has made sure that something is open, and what.
                Event::End(_) => open.pop(),
                Event::Text(text) => {
                    add_text(&mut open, &text.xml10_content()).map_err(|error| wrong(&error))?;
                    None
                }
                Event::CData(data) => {
                    add_text(&mut open, &data.xml10_content()).map_err(|error| wrong(&error))?;
                    None
                }
                Event::GeneralRef(reference) => {
                    let name = reference.xml10_content();
                    let text =
                        resolve(&name).ok_or_else(|| wrong(&format!("`&{name};` is not known here")))?;
                    add_text(&mut open, &text).map_err(|error| wrong(&error))?;
                    None
                }
                Event::DocType(_) => return Err(wrong(&"document types are not taken")),
                Event::Decl(_) | Event::Comment(_) | Event::PI(_) => None,
                Event::Eof => return Err(wrong(&"the document ends too early")),
            };
            if let Some(element) = finished {
                match open.last_mut() {
                    Some(parent) => parent.children.push(element),
                    None => return nothing_more(&mut reader).map(|()| element),
                }
            }
        }
    }

    /// The first child of that name.
    #[must_use]
    pub(crate) fn child(&self, space: &str, local: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name.is(space, local))
    }
}

fn nothing_more(reader: &mut NsReader<&[u8]>) -> Result<(), String> {
    loop {
        let at = reader.buffer_position();
        match reader.read_event().map_err(|error| format!("at byte {at}: {error}"))? {
            Event::Eof => return Ok(()),
            Event::Comment(_) | Event::PI(_) => {}
            Event::Text(text) if text.xml10_content().trim().is_empty() => {}
            _ => return Err(format!("at byte {at}: something stands behind the root element")),
        }
    }
}

fn add_text(open: &mut [Element], text: &str) -> Result<(), &'static str> {
    match open.last_mut() {
        Some(element) => element.text.push_str(text),
        None if text.trim().is_empty() => {}
        None => return Err("text outside of any element"),
    }
    Ok(())
}

/// What a reference without its `&` and `;` stands for.
fn resolve(reference: &str) -> Option<Cow<'static, str>> {
    let Some(number) = reference.strip_prefix('#') else {
        return resolve_xml_entity(reference).map(Cow::Borrowed);
    };
    let code = match number.strip_prefix('x') {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => number.parse(),
    };
    let character = code.ok().and_then(char::from_u32).filter(|character| *character != '\0')?;
    Some(Cow::Owned(character.to_string()))
}

fn element(reader: &NsReader<&[u8]>, start: &BytesStart<'_>) -> Result<Element, String> {
    let name = resolved(reader, start.name(), true)?;
    let mut kind = None;
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|error| error.to_string())?;
        if matches!(
            attribute.key.as_namespace_binding(),
            Some(PrefixDeclaration::Default | PrefixDeclaration::Named(_))
        ) {
            continue;
        }
        let value = attribute.normalized_value(XmlVersion::Implicit1_0).map_err(|error| error.to_string())?;
        let name = resolved(reader, attribute.key, false)?;
        if name.is(XSI, "type") {
            kind = Some(resolved(reader, QName(value.trim()), true)?);
        }
    }
    Ok(Element { name, children: Vec::new(), text: String::new(), kind })
}

/// `default`: whether a name without a prefix is in the default namespace, as elements' are and attributes' aren't.
fn resolved(reader: &NsReader<&[u8]>, name: QName<'_>, default: bool) -> Result<Name, String> {
    let (space, local) = reader.resolver().resolve(name, default);
    let space = match space {
        ResolveResult::Bound(Namespace(space)) => space.to_owned(),
        ResolveResult::Unbound => String::new(),
        ResolveResult::Unknown(prefix) => return Err(format!("the prefix `{prefix}` is not declared")),
    };
    Ok(Name { space, local: local.as_ref().to_owned() })
}

/// Writes elements one behind and within the other.
#[derive(Debug, Default)]
pub(crate) struct Writer(String);

impl Writer {
    /// With the declaration that begins a document.
    #[must_use]
    pub(crate) fn document() -> Self {
        Self(String::from(r#"<?xml version="1.0" encoding="utf-8"?>"#))
    }

    /// An element with others in it. Names and attributes' names are ours and stand as they are.
    pub(crate) fn element(
        &mut self,
        name: &str,
        attributes: &[(&str, &str)],
        inside: impl FnOnce(&mut Self),
    ) {
        self.open(name, attributes);
        self.0.push('>');
        inside(self);
        self.close(name);
    }

    /// An element with a text.
    pub(crate) fn text(&mut self, name: &str, attributes: &[(&str, &str)], text: &str) {
        self.open(name, attributes);
        self.0.push('>');
        self.0.push_str(&escape(clean(text)));
        self.close(name);
    }

    /// An element with what a value shows itself as.
    pub(crate) fn shown(&mut self, name: &str, value: impl std::fmt::Display) {
        self.text(name, &[], &value.to_string());
    }

    /// What another writer wrote.
    pub(crate) fn raw(&mut self, written: &str) {
        self.0.push_str(written);
    }

    /// An element with a text, or none where there is no text.
    pub(crate) fn optional(&mut self, name: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.text(name, &[], text);
        }
    }

    /// An element with nothing in it.
    pub(crate) fn empty(&mut self, name: &str, attributes: &[(&str, &str)]) {
        self.open(name, attributes);
        self.0.push_str(" />");
    }

    /// All that was written.
    #[must_use]
    pub(crate) fn finish(self) -> String {
        self.0
    }

    fn open(&mut self, name: &str, attributes: &[(&str, &str)]) {
        self.0.push('<');
        self.0.push_str(name);
        for (name, value) in attributes {
            self.0.push(' ');
            self.0.push_str(name);
            self.0.push_str("=\"");
            self.0.push_str(&escape(clean(value)));
            self.0.push('"');
        }
    }

    fn close(&mut self, name: &str) {
        self.0.push_str("</");
        self.0.push_str(name);
        self.0.push('>');
    }
}

/// XML has no way at all to carry most control characters.
fn clean(text: &str) -> Cow<'_, str> {
    let carried = |c: char| c >= ' ' && c != '\u{fffe}' && c != '\u{ffff}' || matches!(c, '\t' | '\n' | '\r');
    if text.chars().all(carried) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().map(|c| if carried(c) { c } else { '\u{fffd}' }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_only_abbreviations() {
        let spellings = [
            r#"<entry xmlns="urn:a"><Q xmlns="urn:q" xmlns:i="http://www.w3.org/2001/XMLSchema-instance" i:type="K">1</Q></entry>"#,
            r#"<n:entry xmlns:n="urn:a" xmlns="urn:q" xmlns:p="http://www.w3.org/2001/XMLSchema-instance"><Q p:type="K">1</Q></n:entry>"#,
            "<?xml version='1.0'?>\n<!-- x --><a:entry xmlns:a='urn:a' xmlns:b='urn:q' \
             xmlns:x='http://www.w3.org/2001/XMLSchema-instance'><b:Q x:type='b:K'>&#x31;</b:Q></a:entry>\n",
        ];
        for spelling in spellings {
            let entry = Element::parse(spelling.as_bytes()).unwrap();
            assert!(entry.name.is("urn:a", "entry"), "{spelling}");
            let inner = entry.child("urn:q", "Q").unwrap();
            assert_eq!(inner.text, "1", "{spelling}");
            assert_eq!(inner.kind, Some(Name { space: "urn:q".into(), local: "K".into() }), "{spelling}");
            assert!(entry.child("urn:a", "Q").is_none());
        }
    }

    #[test]
    fn what_is_not_xml_is_refused() {
        let deep = "<a>".repeat(DEEPEST + 1);
        for (wrong, why) in [
            ("", "ends too early"),
            ("text", ""),
            ("<a>", "ends too early"),
            ("<a></b>", "b"),
            ("<a/><b/>", "behind the root"),
            ("<a/>x", "behind the root"),
            ("<x:a/>", "prefix `x` is not declared"),
            ("<a x:b='1'/>", "prefix `x`"),
            ("<a b='1' b='2'/>", ""),
            ("<a>&nbsp;</a>", "`&nbsp;`"),
            ("<a>&#0;</a>", "`&#0;`"),
            ("<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>", "document types"),
            (&deep, "within each other"),
        ] {
            let error = Element::parse(wrong.as_bytes()).unwrap_err();
            assert!(error.contains(why), "{wrong:.40}: {error}");
        }
        assert!(Element::parse(b"<a>\xff</a>").unwrap_err().contains("UTF-8"));
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut writer = Writer::document();
        let text = "a < b && \"c\" > 'd' \u{7} ü";
        writer.element("e", &[("xmlns", "urn:a")], |writer| {
            writer.text("x", &[], text);
            writer.optional("y", None);
            writer.empty("z", &[("xmlns:i", XSI), ("i:type", text)]);
        });
        let element = Element::parse(writer.finish().as_bytes()).unwrap();
        let expected = text.replace('\u{7}', "\u{fffd}");
        assert_eq!(element.child("urn:a", "z").unwrap().kind.as_ref().unwrap().local, expected);
        assert_eq!(element.child("urn:a", "x").unwrap().text, expected);
        assert_eq!(element.children.len(), 2);
    }

    proptest::proptest! {
        #[test]
        fn garbage_is_refused_and_nothing_worse(document in "((<(/|!|\\?|!--|!\\[CDATA\\[)?(a|a:b|x) ?(xmlns:a|a:c|d)?=?('u'|\")?(/)?>)|&(#x?[0-9a-f]{0,9}|lt|[a-z])?;?|-->|\\]\\]>|[a-zé ]){0,12}") {
            let _any = Element::parse(document.as_bytes());
            // What can be read at all can be written and read again.
            if let Ok(element) = Element::parse(format!("<a>{document}</a>").as_bytes()) {
                let mut writer = Writer::document();
                writer.text("a", &[], &element.text);
                let again = Element::parse(writer.finish().as_bytes());
                proptest::prop_assert_eq!(again.map(|again| again.text), Ok(clean(&element.text).into_owned()));
            }
        }
    }
}
