//! Reading TOML key by key, so that every mistake is told, with its line.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::given::{Given, Place};
use crate::when::{Shown, span};

/// A file while it is read, and what is wrong with it so far.
pub(super) struct Reader<'a> {
    file: &'a str,
    text: &'a str,
    problems: RefCell<Vec<(usize, String)>>,
}

impl<'a> Reader<'a> {
    pub(super) const fn new(file: &'a str, text: &'a str) -> Self {
        Self { file, text, problems: RefCell::new(Vec::new()) }
    }

    /// Notes a mistake at this byte of the file.
    pub(super) fn tell(&self, at: usize, problem: fmt::Arguments<'_>) {
        self.problems.borrow_mut().push((at, format!("{}: {problem}", self.place(at))));
    }

    /// The mistakes, as they stand in the file.
    pub(super) fn problems(self) -> Vec<String> {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|(at, _)| *at);
        problems.into_iter().map(|(_, problem)| problem).collect()
    }

    pub(super) fn root(&'a self, table: &'a DeTable<'a>) -> Section<'a> {
        Section { reader: self, name: String::new(), at: 0, table, known: BTreeSet::new() }
    }

    fn place(&self, at: usize) -> String {
        let before = self.text.get(..at).unwrap_or(self.text);
        format!("{}:{}", self.file, before.matches('\n').count() + 1)
    }
}

/// A table of the file. What was never asked for is unknown.
pub(super) struct Section<'a> {
    reader: &'a Reader<'a>,
    /// As its header has it.
    pub(super) name: String,
    at: usize,
    table: &'a DeTable<'a>,
    known: BTreeSet<&'static str>,
}

/// What the text of a key says of a secret.
type Placing = fn(String) -> Place;

type Entry<'a> = (&'a Spanned<DeString<'a>>, &'a Spanned<DeValue<'a>>);

impl<'a> Section<'a> {
    fn entry(&mut self, key: &'static str) -> Option<Entry<'a>> {
        self.known.insert(key);
        self.table.iter().find(|(found, _)| found.get_ref() == key)
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.table.iter().any(|(found, _)| found.get_ref() == key)
    }

    /// Notes a mistake in the value of a key, or where the table begins.
    pub(super) fn wrong(&self, key: &str, problem: &str) {
        let entry = self.table.iter().find(|(found, _)| found.get_ref() == key);
        let at = entry.map_or(self.at, |(found, _)| found.span().start);
        self.reader.tell(at, format_args!("{}: {problem}", self.path(key)));
    }

    /// File and line where it begins.
    pub(super) fn place(&self) -> String {
        self.reader.place(self.at)
    }

    fn path(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{} {key}", self.name) }
    }

    fn take<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        read: impl FnOnce(&'a DeValue<'a>) -> Option<T>,
    ) -> Option<T> {
        let (_, value) = self.entry(key)?;
        let found = read(value.get_ref());
        if found.is_none() {
            self.wrong(key, &format!("{expected} is expected here, not {}", value.get_ref().type_str()));
        }
        found
    }

    pub(super) fn text(&mut self, key: &'static str) -> Option<String> {
        let text = self.take(key, "a text", |value| value.as_str().map(str::to_owned))?;
        if text.is_empty() {
            self.wrong(key, "it is empty");
        }
        Some(text)
    }

    /// A text without which the table makes no sense.
    pub(super) fn needed(&mut self, key: &'static str) -> Option<String> {
        if !self.has(key) {
            self.known.insert(key);
            self.wrong(key, "it is missing");
        }
        self.text(key)
    }

    pub(super) fn texts(&mut self, key: &'static str) -> Option<Vec<String>> {
        self.take(key, "a list of texts", |value| {
            let texts = value.as_array()?.iter();
            texts.map(|text| text.get_ref().as_str().map(str::to_owned)).collect()
        })
    }

    pub(super) fn flag(&mut self, key: &'static str) -> Option<bool> {
        self.take(key, "true or false", DeValue::as_bool)
    }

    pub(super) fn number(&mut self, key: &'static str, range: RangeInclusive<u32>) -> Option<u32> {
        let number = self.take(key, "a whole number", |value| {
            let number = value.as_integer()?;
            i64::from_str_radix(number.as_str(), number.radix()).ok()
        })?;
        let found = u32::try_from(number).ok().filter(|number| range.contains(number));
        if found.is_none() {
            self.wrong(key, &format!("{number} is not between {} and {}", range.start(), range.end()));
        }
        found
    }

    pub(super) fn span(&mut self, key: &'static str, range: RangeInclusive<Duration>) -> Option<Duration> {
        let text = self.take(key, "a span of time, such as \"500ms\",", DeValue::as_str)?;
        match span(text) {
            Ok(found) if range.contains(&found) => Some(found),
            Ok(found) => {
                let (least, most) = (Shown(*range.start()), Shown(*range.end()));
                self.wrong(key, &format!("{} is not between {least} and {most}", Shown(found)));
                None
            }
            Err(problem) => {
                self.wrong(key, &format!("\"{}\": {problem}", text.escape_debug()));
                None
            }
        }
    }

    pub(super) fn choice<T: Copy>(&mut self, key: &'static str, choices: &[(&str, T)]) -> Option<T> {
        let text = self.text(key)?;
        let found = choices.iter().find(|(name, _)| *name == text);
        if found.is_none() {
            let names: Vec<_> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
            self.wrong(key, &format!("\"{}\" is not one of {}", text.escape_debug(), names.join(", ")));
        }
        found.map(|(_, value)| *value)
    }

    /// A secret: `key`, `key_env` or `key_file`.
    pub(super) fn given(&mut self, key: &'static str) -> Option<Given> {
        let (variable, file) = match key {
            "url" => ("url_env", "url_file"),
            _ => ("connection_string_env", "connection_string_file"),
        };
        let in_file = |path| Place::File(PathBuf::from(path));
        self.one_of(&[(key, Place::Text as Placing), (variable, Place::Variable), (file, in_file)])
    }

    /// One that never stands in the configuration itself.
    pub(super) fn secret(&mut self, key: &'static str) -> Option<Given> {
        let (variable, file) = ("client_secret_env", "client_secret_file");
        if self.has(key) {
            self.known.insert(key);
            self.wrong(key, &format!("a secret does not stand here: say `{variable}` or `{file}`"));
        }
        self.one_of(&[
            (variable, Place::Variable as Placing),
            (file, |path| Place::File(PathBuf::from(path))),
        ])
    }

    /// File, line and key.
    pub(super) fn place_of(&self, key: &str) -> String {
        let entry = self.table.iter().find(|(found, _)| found.get_ref() == key);
        let at = entry.map_or(self.at, |(found, _)| found.span().start);
        format!("{}: {}", self.reader.place(at), self.path(key))
    }

    fn one_of(&mut self, places: &[(&'static str, Placing)]) -> Option<Given> {
        let mut found = Vec::new();
        for (key, place) in places {
            if let Some(text) = self.text(key) {
                found.push(Given { place: place(text), at: self.place_of(key) });
            }
        }
        if found.len() > 1 {
            let names: Vec<_> = places.iter().map(|(key, _)| format!("`{key}`")).collect();
            self.wrong(places[0].0, &format!("one of {} is enough: leave one", names.join(", ")));
        }
        found.into_iter().next()
    }

    fn inner(&self, name: String, value: &'a Spanned<DeValue<'a>>, at: usize) -> Option<Self> {
        let table = value.get_ref().as_table();
        if table.is_none() {
            self.reader.tell(at, format_args!("{name} is a table, not {}", value.get_ref().type_str()));
        }
        Some(Self { reader: self.reader, name, at, table: table?, known: BTreeSet::new() })
    }

    /// A table by its key.
    pub(super) fn section(&mut self, key: &'static str) -> Option<Self> {
        let (found, value) = self.entry(key)?;
        self.inner(format!("[{key}]"), value, found.span().start)
    }

    /// Tables whose keys are names.
    pub(super) fn named(&mut self, key: &'static str) -> Vec<(String, Self)> {
        let Some(all) = self.section(key) else { return Vec::new() };
        let inner = all.table.iter().filter_map(|(name, value)| {
            let section = all.inner(format!("[{key}.{}]", name.get_ref()), value, name.span().start)?;
            Some((name.get_ref().to_string(), section))
        });
        inner.collect()
    }

    /// Tables of a list.
    pub(super) fn each(&mut self, key: &'static str) -> Vec<Self> {
        let Some((found, value)) = self.entry(key) else { return Vec::new() };
        let Some(list) = value.get_ref().as_array() else {
            self.reader.tell(found.span().start, format_args!("{key} is a list of tables: write [[{key}]]"));
            return Vec::new();
        };
        list.iter().filter_map(|value| self.inner(format!("[[{key}]]"), value, value.span().start)).collect()
    }

    /// Tells of every key that nobody has asked for.
    pub(super) fn finish(self) {
        for (key, _) in self.table.iter() {
            let name: &str = key.get_ref();
            if self.known.contains(name) {
                continue;
            }
            let known: Vec<_> = self.known.iter().copied().collect();
            let path = self.path(name);
            self.reader.tell(
                key.span().start,
                format_args!("{path}: this key is unknown; there are {}", known.join(", ")),
            );
        }
    }
}
