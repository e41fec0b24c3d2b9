//! What an event's attributes mean, and every rule about them.

use proc_macro2::Span;
use quote::format_ident;
use syn::ext::IdentExt;
use syn::{Data, DeriveInput, Fields, LitStr, Member, Path, parse_quote};

use super::attr::{Keys, Session};
use crate::diagnostics::Diagnostics;

pub(crate) struct Event<'a> {
    pub(crate) input: &'a DeriveInput,
    pub(crate) keys: &'a Keys,
    pub(crate) name: LitStr,
    pub(crate) krate: Path,
}

impl<'a> Event<'a> {
    pub(crate) fn new(input: &'a DeriveInput, keys: &'a Keys, errors: &mut Diagnostics) -> Self {
        for lifetime in input.generics.lifetimes() {
            errors.at(
                lifetime,
                "an event can't borrow: it is decoded in another process; own the data, for example with `String` instead of `&str`",
            );
        }
        if let Data::Union(union) = &input.data {
            errors.at(
                union.union_token,
                "a union can't be an event, since nothing tells which field it holds: use an enum",
            );
        }
        if let Some(Session::Field(member)) = &keys.session {
            check_session(&input.data, member, errors);
        }
        let name = keys
            .name
            .clone()
            .unwrap_or_else(|| LitStr::new(&input.ident.unraw().to_string(), input.ident.span()));
        for alias in keys.aliases.iter().filter(|alias| alias.value() == name.value()) {
            errors.at(alias, "this alias is the event's own name: take it away");
        }
        if keys.upcast_from.is_some() && keys.version.unwrap_or(1) == 1 {
            let old = keys.upcast_from.as_ref();
            errors.at(
                old,
                "an event that is upcast from an older one needs a higher version: add `version = 2`",
            );
        }
        let krate = keys.krate.clone().unwrap_or_else(|| parse_quote!(::distributed_events));
        Self { input, keys, name, krate }
    }
}

fn check_session(data: &Data, member: &Member, errors: &mut Diagnostics) {
    let fields = match data {
        Data::Struct(data) => &data.fields,
        Data::Enum(_) => {
            return errors.at(
                member,
                "an enum has no field that all its variants share: write a function and name it, `session = self::session_of`, with `fn session_of(event: &Self) -> Option<String>`",
            );
        }
        Data::Union(_) => return,
    };
    let known = member_names(fields);
    let wanted = match member {
        Member::Named(name) => name.to_string(),
        Member::Unnamed(index) => index.index.to_string(),
    };
    if known.contains(&wanted) {
        return;
    }
    let there =
        if known.is_empty() { "it has no fields".to_owned() } else { format!("it has {}", known.join(", ")) };
    errors.at(
        member,
        format!("the event has no field `{wanted}`: {there}; a function is named with its path, as in `session = self::{}`", function_for(&wanted)),
    );
}

fn member_names(fields: &Fields) -> Vec<String> {
    fields
        .members()
        .map(|member| match member {
            Member::Named(name) => name.to_string(),
            Member::Unnamed(index) => index.index.to_string(),
        })
        .collect()
}

fn function_for(wanted: &str) -> String {
    if wanted.starts_with(|first: char| first.is_ascii_digit()) {
        return format_ident!("session_of", span = Span::call_site()).to_string();
    }
    wanted.to_owned()
}
