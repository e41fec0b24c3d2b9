//! XML, as much of it as the management API speaks: elements, their text, and one attribute.

use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;
use quick_xml::{XmlVersion, escape};

/// Elements within each other: what is read must not decide how deep things get.
const DEEPEST: usize = 32;

/// An element that was read. Prefixes are left away: the API uses no name twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) name: String,
    /// Its `type` attribute, without a prefix.
    pub(super) kind: Option<String>,
    pub(super) text: String,
    pub(super) children: Vec<Self>,
}

impl Element {
    /// Reads a document. The error says where and what is wrong.
    pub(super) fn parse(document: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(document).map_err(|error| format!("not UTF-8: {error}"))?;
        let mut reader = Reader::from_str(text.trim_start_matches('\u{feff}'));
        // The document itself, so that something is always open.
        let mut open = vec![Self::default()];
        loop {
            let at = reader.buffer_position();
            let wrong = |what: &dyn std::fmt::Display| format!("at byte {at}: {what}");
            match reader.read_event().map_err(|error| wrong(&error))? {
                Event::Start(start) if open.len() <= DEEPEST => {
                    open.push(Self::begin(&start).map_err(|error| wrong(&error))?);
                }
                Event::Start(_) => return Err(wrong(&"too many elements within each other")),
                Event::Empty(start) => {
                    let element = Self::begin(&start).map_err(|error| wrong(&error))?;
                    add(&mut open, |parent| parent.children.push(element));
                }
                Event::End(_) => {
                    if let Some(element) = open.pop() {
                        add(&mut open, |parent| parent.children.push(element));
                    }
                }
                Event::Text(text) => add(&mut open, |element| element.text.push_str(&text.xml10_content())),
                Event::CData(text) => add(&mut open, |element| element.text.push_str(&text.xml10_content())),
                Event::GeneralRef(reference) => {
                    let reference = format!("&{};", reference.xml10_content());
                    let text = escape::unescape(&reference).map_err(|error| wrong(&error))?;
                    add(&mut open, |element| element.text.push_str(&text));
                }
                // What it would define could grow without end.
                Event::DocType(_) => return Err(wrong(&"document types are not read")),
                Event::Decl(_) | Event::Comment(_) | Event::PI(_) => {}
                Event::Eof => break,
            }
        }
        let document = open.pop().filter(|_| open.is_empty()).ok_or("it ends too early")?;
        let [root] = <[Self; 1]>::try_from(document.children).map_err(|_| "it has not one root element")?;
        Ok(root)
    }

    fn begin(start: &BytesStart<'_>) -> Result<Self, String> {
        let mut element = Self { name: local(start.name().0).to_owned(), ..Self::default() };
        for attribute in start.attributes() {
            let attribute = attribute.map_err(|error| error.to_string())?;
            if local(attribute.key.0) == "type" {
                let value =
                    attribute.normalized_value(XmlVersion::Implicit1_0).map_err(|error| error.to_string())?;
                element.kind = Some(local(value.trim()).to_owned());
            }
        }
        Ok(element)
    }

    /// The first child of that name.
    pub(super) fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name)
    }

    /// The text of the first child of that name, if there is any.
    pub(super) fn text_of(&self, name: &str) -> Option<&str> {
        self.child(name).map(|child| child.text.trim()).filter(|text| !text.is_empty())
    }
}

fn add(open: &mut [Element], change: impl FnOnce(&mut Element)) {
    if let Some(element) = open.last_mut() {
        change(element);
    }
}

fn local(name: &str) -> &str {
    name.rsplit_once(':').map_or(name, |(_, local)| local)
}

/// Writes elements one behind and within the other. Names are ours and stand as they are.
#[derive(Debug, Default)]
pub(super) struct Writer(String);

impl Writer {
    /// An element with others in it; `attributes` stand as they are.
    pub(super) fn element(&mut self, name: &str, attributes: &str, inside: impl FnOnce(&mut Self)) {
        self.0.push('<');
        self.0.push_str(name);
        if !attributes.is_empty() {
            self.0.push(' ');
            self.0.push_str(attributes);
        }
        self.0.push('>');
        inside(self);
        self.0.push_str("</");
        self.0.push_str(name);
        self.0.push('>');
    }

    /// An element with a text.
    pub(super) fn text(&mut self, name: &str, text: &str) {
        self.element(name, "", |writer| writer.0.push_str(&escape::escape(text)));
    }

    pub(super) fn finish(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let mut writer = Writer::default();
        writer.element("Filter", "i:type=\"CorrelationFilter\"", |writer| {
            writer.text("Label", "<a & \"b\">'ü")
        });
        let read = Element::parse(writer.finish().as_bytes()).unwrap();
        assert_eq!((read.name.as_str(), read.kind.as_deref()), ("Filter", Some("CorrelationFilter")));
        assert_eq!(read.text_of("Label"), Some("<a & \"b\">'ü"));
        assert_eq!(read.text_of("Other"), None);
    }

    #[test]
    fn prefixes_comments_and_references_don_t_matter() {
        let document = "\u{feff}<?xml version=\"1.0\"?><!-- c -->\n<a:entry xmlns:a='urn:a'>\
                        <a:Label b:type='c:T' xmlns:b='urn:b'>x&#x41;<![CDATA[<]]>&amp;</a:Label><a:Empty/></a:entry>\n";
        let read = Element::parse(document.as_bytes()).unwrap();
        assert_eq!(read.name, "entry");
        assert_eq!(read.text_of("Label"), Some("xA<&"));
        assert_eq!(read.child("Label").unwrap().kind.as_deref(), Some("T"));
        assert_eq!(read.child("Empty").unwrap().text, "");
    }

    #[test]
    fn what_is_no_document_is_refused() {
        let deep = "<a>".repeat(DEEPEST + 1) + &"</a>".repeat(DEEPEST + 1);
        for wrong in ["", "x", "<a>", "<a></b>", "<a/><b/>", "<a>&nbsp;</a>", "<!DOCTYPE a><a/>", &deep] {
            assert!(Element::parse(wrong.as_bytes()).is_err(), "{wrong:.40}");
        }
        assert!(Element::parse(b"<a>\xff</a>").unwrap_err().contains("UTF-8"));
    }
}
