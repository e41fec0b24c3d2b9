//! Values with XML Schema's types, as .NET's serializer writes them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use uuid::Uuid;

use crate::http::dates;
use crate::http::xml::Element;
use crate::model::{Span, Value};

/// <http://www.w3.org/2001/XMLSchema>
pub(super) const XSD: &str = "http://www.w3.org/2001/XMLSchema";
/// Where guid and char are.
const SERIALIZATION: &str = "http://schemas.microsoft.com/2003/10/Serialization/";

/// Service Bus's own AMQP type for .NET's TimeSpan: described by this symbol, 100 ns as a long.
const TIMESPAN: &[u8] = b"\x00\xa3\x16com.microsoft:timespan\x81";

/// The type's name and the text.
pub(super) fn write(value: &Value) -> (&'static str, String) {
    match value {
        Value::Null => ("string", String::new()),
        Value::Bool(it) => ("boolean", it.to_string()),
        Value::UByte(it) => ("unsignedByte", it.to_string()),
        Value::UShort(it) => ("unsignedShort", it.to_string()),
        Value::UInt(it) => ("unsignedInt", it.to_string()),
        Value::ULong(it) => ("unsignedLong", it.to_string()),
        Value::Byte(it) => ("byte", it.to_string()),
        Value::Short(it) => ("short", it.to_string()),
        Value::Int(it) => ("int", it.to_string()),
        Value::Long(it) => ("long", it.to_string()),
        Value::Float(it) => ("float", number((*it).into(), it.to_string())),
        Value::Double(it) => ("double", number(*it, it.to_string())),
        Value::Char(it) => ("string", it.to_string()),
        Value::Timestamp(it) => ("dateTime", dates::iso_milliseconds(*it)),
        Value::Uuid(it) => ("string", it.to_string()),
        Value::Binary(it) => ("base64Binary", STANDARD.encode(it)),
        Value::String(it) | Value::Symbol(it) => ("string", it.clone()),
        Value::Opaque(it) => match timespan(it) {
            Some(span) => ("duration", span),
            None => ("base64Binary", STANDARD.encode(it)),
        },
    }
}

/// XML Schema's spelling where Rust's is another.
fn number(value: f64, text: String) -> String {
    if value.is_infinite() { text.to_uppercase() } else { text }
}

pub(super) fn read(element: &Element) -> Result<Value, String> {
    let text = element.text.as_str();
    let kind = element.kind.as_ref().ok_or("its value has no type")?;
    if kind.space != XSD && kind.space != SERIALIZATION {
        return Err(format!("its type `{}` is not one of {XSD}", kind.local));
    }
    fn parse<T: std::str::FromStr>(text: &str, make: impl FnOnce(T) -> Value) -> Option<Value> {
        text.trim().parse().ok().map(make)
    }
    let value = match kind.local.as_str() {
        "string" => Some(Value::String(text.to_owned())),
        "boolean" => match text.trim() {
            "true" | "1" => Some(Value::Bool(true)),
            "false" | "0" => Some(Value::Bool(false)),
            _ => None,
        },
        "unsignedByte" => parse(text, Value::UByte),
        "unsignedShort" => parse(text, Value::UShort),
        "unsignedInt" => parse(text, Value::UInt),
        "unsignedLong" => parse(text, Value::ULong),
        "byte" => parse(text, Value::Byte),
        "short" => parse(text, Value::Short),
        "int" => parse(text, Value::Int),
        "long" => parse(text, Value::Long),
        "float" => parse(text, Value::Float),
        "double" => parse(text, Value::Double),
        "dateTime" => dates::parse_iso(text.trim()).map(Value::Timestamp),
        "duration" => Span::parse(text.trim()).ok().map(|span| Value::Opaque(described(span))),
        "guid" => Uuid::parse_str(text.trim()).ok().map(Value::Uuid),
        "base64Binary" => STANDARD.decode(text.trim()).ok().map(|bytes| Value::Binary(bytes.into())),
        other => return Err(format!("values of type `{other}` can't be compared")),
    };
    value.ok_or_else(|| {
        format!("`{}` is not of type {}", text.chars().take(80).collect::<String>(), kind.local)
    })
}

fn described(span: Span) -> Bytes {
    let ticks = i64::try_from(span.0).unwrap_or(i64::MAX).saturating_mul(10_000);
    [TIMESPAN, &ticks.to_be_bytes()].concat().into()
}

fn timespan(encoded: &[u8]) -> Option<String> {
    let ticks = encoded.strip_prefix(TIMESPAN)?;
    let ticks = i64::from_be_bytes(ticks.try_into().ok()?);
    u64::try_from(ticks / 10_000).ok().map(|milliseconds| Span(milliseconds).to_string())
}
