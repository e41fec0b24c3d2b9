//! Words and signs of the SQL dialect.

use super::LONGEST;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// A regular identifier or a keyword.
    Word(String),
    /// `[name]` or `"name"`: never a keyword.
    Delimited(String),
    Text(String),
    Integer(i64),
    Double(f64),
    /// `@name`
    Parameter(String),
    Sign(&'static str),
}

/// Longer ones first.
const SIGNS: [&str; 18] =
    ["<>", "!=", "<=", ">=", "=", "<", ">", "(", ")", ",", ".", "+", "-", "*", "/", "%", ";", "!"];

pub(super) fn tokens(text: &str) -> Result<Vec<Token>, String> {
    if text.chars().count() > LONGEST {
        return Err(format!("the expression has more than {LONGEST} characters"));
    }
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, length) = match first {
            '\'' => quoted(rest, '\'', Token::Text)?,
            '"' => quoted(rest, '"', Token::Delimited)?,
            '[' => quoted(rest, ']', Token::Delimited)?,
            '0'..='9' => number(rest)?,
            '.' if rest[1..].starts_with(|c: char| c.is_ascii_digit()) => number(rest)?,
            '@' => {
                let name = &rest[1..][..word_length(&rest[1..])];
                if name.is_empty() {
                    return Err("a name is missing behind `@`".to_owned());
                }
                (Token::Parameter(name.to_owned()), 1 + name.len())
            }
            _ if is_letter(first) => {
                let word = &rest[..word_length(rest)];
                (Token::Word(word.to_owned()), word.len())
            }
            _ => {
                let sign = SIGNS.into_iter().find(|sign| rest.starts_with(sign));
                let sign = sign.ok_or_else(|| format!("{first:?} has no meaning here"))?;
                (Token::Sign(sign), sign.len())
            }
        };
        tokens.push(token);
        rest = rest[length..].trim_start();
    }
    Ok(tokens)
}

fn is_letter(c: char) -> bool {
    c.is_alphabetic() || c == '_'
}

fn word_length(text: &str) -> usize {
    text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len())
}

/// From one quote to the next; a doubled closing quote stands for itself.
fn quoted(text: &str, close: char, make: fn(String) -> Token) -> Result<(Token, usize), String> {
    let mut content = String::new();
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c != close {
            content.push(c);
        } else if chars.peek().is_some_and(|(_, next)| *next == close) {
            content.push(close);
            chars.next();
        } else {
            return Ok((make(content), at + close.len_utf8()));
        }
    }
    Err(format!("the closing {close:?} is missing"))
}

fn number(text: &str) -> Result<(Token, usize), String> {
    if let Some(hex) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        let digits = hex.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(hex.len());
        let value = i64::from_str_radix(&hex[..digits], 16);
        return value
            .map(|n| (Token::Integer(n), 2 + digits))
            .map_err(|_| "a number is too long or empty".to_owned());
    }
    let bytes = text.as_bytes();
    let digits = |from: usize| from + bytes[from..].iter().take_while(|b| b.is_ascii_digit()).count();
    let mut end = digits(0);
    let mut whole = true;
    if bytes.get(end) == Some(&b'.') {
        whole = false;
        end = digits(end + 1);
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        let exponent = digits(end + 1 + sign);
        if exponent > end + 1 + sign {
            whole = false;
            end = exponent;
        }
    }
    if bytes.get(end).is_some_and(|b| b.is_ascii_alphabetic() || *b == b'_') {
        return Err(format!("`{}` is neither a number nor a name", &text[..=end]));
    }
    let number = &text[..end];
    let token =
        if whole { number.parse().ok().map(Token::Integer) } else { number.parse().ok().map(Token::Double) };
    token.map(|token| (token, end)).ok_or_else(|| format!("`{number}` is too large a number"))
}
