//! JSON with comments, where every value knows its line.

/// A value and the line that it begins on.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) line: usize,
    pub(super) value: Json,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Json {
    Null,
    Bool(bool),
    Integer(i64),
    Double(f64),
    Text(String),
    Array(Vec<Node>),
    Object(Vec<Member>),
}

/// A name, its line, and what stands behind it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) line: usize,
    pub(super) node: Node,
}

impl Json {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Integer(_) | Self::Double(_) => "a number",
            Self::Text(_) => "a text",
            Self::Array(_) => "an array",
            Self::Object(_) => "an object",
        }
    }
}

/// Arrays and objects within each other.
const DEEPEST: usize = 64;

/// The whole text, or a line and what is wrong there. `//` and `/* */` comments and trailing commas are skipped.
pub(super) fn parse(text: &str) -> Result<Node, (usize, String)> {
    let mut parser = Parser { rest: text.strip_prefix('\u{feff}').unwrap_or(text), line: 1, depth: 0 };
    let node = parser.space().and_then(|()| parser.node()).map_err(|error| (parser.line, error))?;
    parser.space().map_err(|error| (parser.line, error))?;
    if parser.rest.is_empty() {
        Ok(node)
    } else {
        Err((parser.line, parser.unexpected("the end of the file")))
    }
}

struct Parser<'a> {
    rest: &'a str,
    line: usize,
    depth: usize,
}

impl Parser<'_> {
    fn unexpected(&self, wanted: &str) -> String {
        match self.rest.chars().next() {
            None => format!("the file ends where {wanted} is expected"),
            Some(c) => format!("{c:?} stands where {wanted} is expected"),
        }
    }

    fn take(&mut self, length: usize) -> &str {
        let (taken, rest) = self.rest.split_at(length);
        self.line += taken.matches('\n').count();
        self.rest = rest;
        taken
    }

    fn sign(&mut self, sign: char) -> bool {
        let found = self.rest.starts_with(sign);
        if found {
            self.take(sign.len_utf8());
        }
        found
    }

    fn space(&mut self) -> Result<(), String> {
        loop {
            let blank = self.rest.len() - self.rest.trim_start().len();
            self.take(blank);
            if self.rest.starts_with("//") {
                let end = self.rest.find('\n').unwrap_or(self.rest.len());
                self.take(end);
            } else if self.rest.starts_with("/*") {
                let end = self.rest.find("*/").ok_or("a comment has no end")?;
                self.take(end + 2);
            } else {
                return Ok(());
            }
        }
    }

    fn node(&mut self) -> Result<Node, String> {
        let line = self.line;
        let value = match self.rest.chars().next() {
            Some('{') => self.deeper(Self::object)?,
            Some('[') => self.deeper(Self::array)?,
            Some('"') => Json::Text(self.text()?),
            Some('-' | '0'..='9') => self.number()?,
            _ => self.word()?,
        };
        Ok(Node { line, value })
    }

    fn deeper(&mut self, parse: fn(&mut Self) -> Result<Json, String>) -> Result<Json, String> {
        if self.depth == DEEPEST {
            return Err(format!("it is nested more than {DEEPEST} deep"));
        }
        self.depth += 1;
        self.take(1);
        self.space()?;
        let value = parse(self);
        self.depth -= 1;
        value
    }

    /// A comma, perhaps with the end behind it, or the end.
    fn ends(&mut self, close: char) -> Result<bool, String> {
        self.space()?;
        let comma = self.sign(',');
        self.space()?;
        if self.sign(close) {
            return Ok(true);
        }
        if comma { Ok(false) } else { Err(self.unexpected(&format!("a comma or {close:?}"))) }
    }

    fn object(&mut self) -> Result<Json, String> {
        let mut members: Vec<Member> = Vec::new();
        if self.sign('}') {
            return Ok(Json::Object(members));
        }
        loop {
            if !self.rest.starts_with('"') {
                return Err(self.unexpected("a name in quotes"));
            }
            let line = self.line;
            let name = self.text()?;
            self.space()?;
            if !self.sign(':') {
                return Err(self.unexpected("a colon"));
            }
            self.space()?;
            let node = self.node()?;
            members.push(Member { name, line, node });
            if self.ends('}')? {
                return Ok(Json::Object(members));
            }
        }
    }

    fn array(&mut self) -> Result<Json, String> {
        let mut nodes = Vec::new();
        if self.sign(']') {
            return Ok(Json::Array(nodes));
        }
        loop {
            nodes.push(self.node()?);
            if self.ends(']')? {
                return Ok(Json::Array(nodes));
            }
        }
    }

    fn number(&mut self) -> Result<Json, String> {
        let end = self.rest.find(|c: char| !(c.is_ascii_alphanumeric() || "+-.".contains(c)));
        let text = self.take(end.unwrap_or(self.rest.len())).to_owned();
        let whole = text.parse().map(Json::Integer).ok();
        let plain = text.starts_with(|c: char| c == '-' || c.is_ascii_digit());
        let double = || text.parse().ok().filter(|n: &f64| n.is_finite() && plain).map(Json::Double);
        whole.or_else(double).ok_or_else(|| format!("`{text}` is not a number"))
    }

    fn word(&mut self) -> Result<Json, String> {
        for (word, value) in [("true", Json::Bool(true)), ("false", Json::Bool(false)), ("null", Json::Null)]
        {
            if self.rest.starts_with(word) {
                self.take(word.len());
                return Ok(value);
            }
        }
        Err(self.unexpected("a value"))
    }

    fn text(&mut self) -> Result<String, String> {
        // As long as the text isn't complete its escapes needn't be understood, just not be taken for its end.
        let mut escaped = false;
        let end = self.rest.char_indices().skip(1).find(|(_, c)| {
            let closes = *c == '"' && !escaped;
            escaped = *c == '\\' && !escaped;
            closes || *c == '\n'
        });
        let Some((end, '"')) = end else { return Err("a text has no closing quote on its line".to_owned()) };
        let literal = self.take(end + 1);
        serde_json::from_str(literal)
            .map_err(|_| format!("{literal} is not a text: an escape in it has no meaning"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_commas_and_escapes_are_understood() {
        let text = "\u{feff}// top\n{ /* two\nlines */ \"a\\u0041\\n\": [1, -2.5e1, true, null,], // end\n \"b//\": {},\n}\n";
        let node = parse(text).unwrap();
        let Json::Object(members) = node.value else { panic!() };
        assert_eq!((node.line, members.len()), (2, 2));
        assert_eq!((members[0].name.as_str(), members[0].line), ("aA\n", 3));
        let Json::Array(items) = &members[0].node.value else { panic!() };
        let values: Vec<_> = items.iter().map(|item| item.value.clone()).collect();
        assert_eq!(values, [Json::Integer(1), Json::Double(-25.0), Json::Bool(true), Json::Null]);
        assert_eq!((members[1].name.as_str(), members[1].line), ("b//", 4));
    }

    #[test]
    fn what_is_no_json_is_refused_with_its_line() {
        let deep = "[".repeat(100_000);
        for (line, text) in [
            (1, ""),
            (2, "{\n"),
            (2, "{\"a\": 1\n\"b\": 2}"),
            (1, "{\"a\" 1}"),
            (1, "{a: 1}"),
            (1, "[1 2]"),
            (1, "[,]"),
            (1, "tru"),
            (1, "1x"),
            (1, "-"),
            (1, "\"a"),
            (1, "\"a\nb\""),
            (1, "\"\\q\""),
            (1, "/* no end"),
            (2, "{}\n{}"),
            (1, "1e999"),
            (1, deep.as_str()),
        ] {
            assert_eq!(parse(text).unwrap_err().0, line, "{}", &text[..text.len().min(20)]);
        }
    }
}
