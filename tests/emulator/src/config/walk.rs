//! Walking through a file's values, noting what is wrong.

use super::json::{Json, Member, Node};
use super::{Mistake, Mistakes};
use crate::model::{self, Span};

/// All that was found so far.
#[derive(Default)]
pub(super) struct Notes(Vec<Mistake>);

impl Notes {
    pub(super) fn add(&mut self, line: usize, key: &str, text: impl Into<String>) {
        self.0.push(Mistake { line, key: key.to_owned(), text: text.into() });
    }

    pub(super) fn into_result<T>(mut self, value: T) -> Result<T, Mistakes> {
        self.0.sort();
        if self.0.is_empty() { Ok(value) } else { Err(Mistakes(self.0)) }
    }

    fn wrong_kind(&mut self, node: &Node, key: &str, wanted: &str) {
        self.add(node.line, key, format!("{} stands where {wanted} is expected", node.value.kind()));
    }

    /// An array's items, with their keys.
    pub(super) fn items<'a>(&mut self, node: &'a Node, key: &str) -> Vec<(String, &'a Node)> {
        let Json::Array(items) = &node.value else {
            self.wrong_kind(node, key, "an array");
            return Vec::new();
        };
        items.iter().enumerate().map(|(index, item)| (format!("{key}[{index}]"), item)).collect()
    }

    pub(super) fn object<'a>(&mut self, node: &'a Node, key: &str) -> Option<Object<'a>> {
        let Json::Object(members) = &node.value else {
            self.wrong_kind(node, key, "an object");
            return None;
        };
        for (index, member) in members.iter().enumerate() {
            if members[..index].iter().any(|other| same(&other.name, &member.name)) {
                self.add(member.line, &join(key, &member.name), "it stands there twice");
            }
        }
        Some(Object { line: node.line, key: key.to_owned(), members, known: Vec::new() })
    }
}

fn same(left: &str, right: &str) -> bool {
    left.eq_ignore_ascii_case(right)
}

pub(super) fn join(key: &str, name: &str) -> String {
    if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") }
}

/// An object whose members are asked for by name, whatever their case; what nobody asked for is unknown.
pub(super) struct Object<'a> {
    pub(super) line: usize,
    pub(super) key: String,
    members: &'a [Member],
    known: Vec<&'static str>,
}

impl<'a> Object<'a> {
    pub(super) fn get(&mut self, name: &'static str) -> Option<&'a Node> {
        self.known.push(name);
        let found = self.members.iter().find(|member| same(&member.name, name)).map(|member| &member.node);
        // The official emulator takes null for absent.
        found.filter(|node| node.value != Json::Null)
    }

    pub(super) fn key_of(&self, name: &str) -> String {
        join(&self.key, name)
    }

    /// The line of a member, or of the object where there is none of that name.
    pub(super) fn line_of(&self, name: &str) -> usize {
        self.members.iter().find(|member| same(&member.name, name)).map_or(self.line, |member| member.line)
    }

    /// All members, for objects whose names are free.
    pub(super) fn all(&self) -> &'a [Member] {
        self.members
    }

    fn typed<T>(
        &mut self,
        notes: &mut Notes,
        name: &'static str,
        wanted: &str,
        take: impl FnOnce(&Json) -> Option<T>,
    ) -> Option<T> {
        let node = self.get(name)?;
        let value = take(&node.value);
        if value.is_none() {
            notes.wrong_kind(node, &self.key_of(name), wanted);
        }
        value
    }

    pub(super) fn text(&mut self, notes: &mut Notes, name: &'static str) -> Option<String> {
        self.typed(notes, name, "a text", |value| match value {
            Json::Text(text) => Some(text.clone()),
            _ => None,
        })
    }

    pub(super) fn boolean(&mut self, notes: &mut Notes, name: &'static str, into: &mut bool) {
        let found = self.typed(notes, name, "true or false", |value| match value {
            Json::Bool(value) => Some(*value),
            _ => None,
        });
        *into = found.unwrap_or(*into);
    }

    pub(super) fn number(&mut self, notes: &mut Notes, name: &'static str, into: &mut u32) {
        let found = self.typed(notes, name, "a whole number", |value| match value {
            Json::Integer(value) => u32::try_from(*value).ok(),
            _ => None,
        });
        *into = found.unwrap_or(*into);
    }

    pub(super) fn span(&mut self, notes: &mut Notes, name: &'static str, into: &mut Span) {
        let Some(text) = self.text(notes, name) else { return };
        match Span::parse(&text) {
            Ok(span) => *into = span,
            Err(error) => notes.add(self.line_of(name), &self.key_of(name), error),
        }
    }

    /// What the model says of settings that were read from here.
    pub(super) fn settings(&self, notes: &mut Notes, mistakes: Vec<model::Mistake>) {
        for model::Mistake { key, text } in mistakes {
            notes.add(self.line_of(key), &self.key_of(key), text);
        }
    }

    /// Notes what nobody asked for.
    pub(super) fn finish(self, notes: &mut Notes) {
        for member in self.members {
            if !self.known.iter().any(|known| same(known, &member.name)) {
                let text = format!("there is no such key; known are {}", self.known.join(", "));
                notes.add(member.line, &self.key_of(&member.name), text);
            }
        }
    }
}
