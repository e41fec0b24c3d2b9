//! Reading `key`, `key = value` and `key(...)` lists, going on after a mistake so that all are reported.

use proc_macro2::TokenTree;
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream};
use syn::{Ident, LitInt, LitStr, Path, Token};

use crate::diagnostics::Diagnostics;

/// Reads a list. `read` takes the value of a key it knows, and returns `false` for one it does not know; `repeatable`
/// keys may come more than once.
pub(crate) fn read(
    input: ParseStream<'_>,
    macro_name: &str,
    accepted: &[&str],
    repeatable: &[&str],
    errors: &mut Diagnostics,
    mut read: impl FnMut(&Ident, ParseStream<'_>, &mut Diagnostics) -> syn::Result<bool>,
) {
    let mut seen: Vec<String> = Vec::new();
    while !input.is_empty() {
        let key = match input.call(Ident::parse_any) {
            Ok(key) => key,
            Err(error) => {
                let text = format!("expected a key of `{macro_name}`: {}", accepted.join(", "));
                errors.push(syn::Error::new(error.span(), text));
                skip(input);
                continue;
            }
        };
        let name = key.to_string();
        if seen.contains(&name) && !repeatable.contains(&name.as_str()) {
            errors.at(&key, format!("`{name}` is given twice: keep one of them"));
        }
        seen.push(name.clone());
        match read(&key, input, errors) {
            Ok(true) => {}
            Ok(false) => {
                errors.at(
                    &key,
                    format!("unknown key `{name}`: `{macro_name}` accepts {}", accepted.join(", ")),
                );
                skip(input);
                continue;
            }
            Err(error) => {
                errors.push(error);
                skip(input);
                continue;
            }
        }
        if !input.is_empty() && input.parse::<Token![,]>().is_err() {
            errors.at_span(input.span(), format!("expected `,` after `{name}` and its value"));
            skip(input);
        }
    }
}

/// Goes on behind the next comma.
fn skip(input: ParseStream<'_>) {
    while !input.is_empty() {
        if input.parse::<Token![,]>().is_ok() {
            return;
        }
        if input.parse::<TokenTree>().is_err() {
            return;
        }
    }
}

/// `= value`; says by example what to write where there is none.
pub(crate) fn value<T: Parse>(key: &Ident, input: ParseStream<'_>, example: &str) -> syn::Result<T> {
    if !input.peek(Token![=]) {
        return Err(syn::Error::new(key.span(), format!("`{key}` needs a value: write `{key} = {example}`")));
    }
    let equals: Token![=] = input.parse()?;
    if input.is_empty() || input.peek(Token![,]) {
        return Err(syn::Error::new(
            equals.spans[0],
            format!("`{key}` needs a value: write `{key} = {example}`"),
        ));
    }
    input.parse().map_err(|error| {
        syn::Error::new(error.span(), format!("this is no value for `{key}`: write `{key} = {example}`"))
    })
}

/// `= "text"`, within the limits of names everywhere.
pub(crate) fn text(key: &Ident, input: ParseStream<'_>, example: &str, max: usize) -> syn::Result<LitStr> {
    let text: LitStr = value(key, input, &format!("\"{example}\""))?;
    let found = text.value();
    let refuse = |problem: String| Err(syn::Error::new(text.span(), problem));
    if found.is_empty() {
        return refuse(format!("`{key}` is empty: write `{key} = \"{example}\"`, or leave it out"));
    }
    let length = found.chars().count();
    if length > max {
        return refuse(format!(
            "`{key}` has {length} characters, and the limit is {max}: choose a shorter one"
        ));
    }
    if found.chars().any(char::is_control) {
        return refuse(format!("`{key}` contains control characters, which can't travel: leave them out"));
    }
    if found.trim() != found {
        return refuse(format!("`{key}` begins or ends with a space: take it away"));
    }
    Ok(text)
}

/// What Service Bus would not take in the name of a topic or subscription. Its rules are kept with every broker, so that a
/// service can move there; the bus checks names that are no literals when it is built.
pub(crate) fn entity(key: &str, text: &LitStr, slashes: bool) -> syn::Result<()> {
    let name = text.value();
    let refuse = |problem: String| Err(syn::Error::new(text.span(), problem));
    let allowed = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c) || slashes && c == '/';
    if let Some(c) = name.chars().find(|&c| !allowed(c)) {
        let accepted = if slashes { "`.`, `-`, `_` and `/`" } else { "`.`, `-` and `_`" };
        return refuse(format!(
            "`{key}` has a {c:?} in it, and Service Bus takes letters and digits of ASCII, {accepted}: choose another name"
        ));
    }
    if name.split('/').any(|part| part.eq_ignore_ascii_case("subscriptions")) && slashes {
        return refuse(format!(
            "`{key}` has a part `subscriptions`, by which Service Bus tells subscriptions from topics: choose another name"
        ));
    }
    if name.contains("//") || !name.starts_with(alphanumeric) || !name.ends_with(alphanumeric) {
        let within = if slashes { ", and have no two slashes in a row" } else { "" };
        return refuse(format!(
            "`{key}` must begin and end with a letter or a digit{within}: choose another name"
        ));
    }
    Ok(())
}

fn alphanumeric(c: char) -> bool {
    c.is_ascii_alphanumeric()
}

/// `= number`, at least `least`.
pub(crate) fn number<T>(key: &Ident, input: ParseStream<'_>, example: &str, least: T) -> syn::Result<T>
where
    T: Copy + std::str::FromStr + PartialOrd + std::fmt::Display,
    T::Err: std::fmt::Display,
{
    let literal: LitInt = value(key, input, example)?;
    let number: T = literal.base10_parse().map_err(|_| {
        syn::Error::new(literal.span(), format!("`{key}` is too big: write a number like {example}"))
    })?;
    if number < least {
        return Err(syn::Error::new(
            literal.span(),
            format!("`{key}` must be at least {least}: write `{key} = {example}`, or leave it out"),
        ));
    }
    Ok(number)
}

/// `= path` or `= "path"`.
pub(crate) fn krate(key: &Ident, input: ParseStream<'_>) -> syn::Result<Path> {
    if !input.peek(Token![=]) {
        return value(key, input, "my_events");
    }
    let _equals: Token![=] = input.parse()?;
    let wrong = |span| syn::Error::new(span, "`crate` needs a path: write `crate = my_events`");
    if input.peek(LitStr) {
        let text: LitStr = input.parse()?;
        return text.parse_with(Path::parse_mod_style).map_err(|_| wrong(text.span()));
    }
    let span = input.span();
    input.call(Path::parse_mod_style).map_err(|_| wrong(span))
}
