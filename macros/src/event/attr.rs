//! What was written in `#[event(...)]`.

use syn::spanned::Spanned;
use syn::{Attribute, Expr, ExprLit, Lit, LitStr, Member, Meta, Path, Type};

use crate::diagnostics::Diagnostics;
use crate::keys;

const ACCEPTED: &[&str] =
    &["name", "topic", "session", "version", "upcast_from", "alias", "lane", "max_size", "crate"];

#[derive(Default)]
pub(crate) struct Keys {
    pub(crate) name: Option<LitStr>,
    pub(crate) topic: Option<LitStr>,
    pub(crate) session: Option<Session>,
    pub(crate) version: Option<u32>,
    pub(crate) upcast_from: Option<Type>,
    pub(crate) aliases: Vec<LitStr>,
    pub(crate) lane: Option<LitStr>,
    pub(crate) max_size: Option<usize>,
    pub(crate) krate: Option<Path>,
}

/// Where the session comes from.
pub(crate) enum Session {
    Field(Member),
    Function(Path),
}

impl Keys {
    pub(crate) fn read(attributes: &[Attribute], errors: &mut Diagnostics) -> Self {
        let mut keys = Self::default();
        let mut first = true;
        for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("event")) {
            let Meta::List(list) = &attribute.meta else {
                errors.at(
                    attribute,
                    "`event` needs a list: write `#[event(name = \"service.what-happened\")]`",
                );
                continue;
            };
            if list.tokens.is_empty() {
                errors.at(
                    attribute,
                    format!(
                        "`#[event()]` says nothing: give a key ({}), or take it away",
                        ACCEPTED.join(", ")
                    ),
                );
            }
            if !first {
                errors.at(attribute, "a second `#[event(...)]`: put all keys into one");
            }
            first = false;
            let parsed = attribute.parse_args_with(|input: syn::parse::ParseStream<'_>| {
                keys::read(input, "event", ACCEPTED, &["alias"], errors, |key, input, errors| {
                    keys.take(key, input, errors)
                });
                Ok(())
            });
            errors.ok(parsed);
        }
        keys
    }

    fn take(
        &mut self,
        key: &syn::Ident,
        input: syn::parse::ParseStream<'_>,
        errors: &mut Diagnostics,
    ) -> syn::Result<bool> {
        match key.to_string().as_str() {
            "name" => self.name = Some(keys::text(key, input, "service.what-happened", 128)?),
            "topic" => {
                let topic = keys::text(key, input, "orders", 128)?;
                errors.ok(keys::entity("topic", &topic, true));
                self.topic = Some(topic);
            }
            "lane" => self.lane = Some(keys::text(key, input, "critical", 128)?),
            "alias" => {
                let alias = keys::text(key, input, "old.name", 128)?;
                if self.aliases.iter().any(|known| known.value() == alias.value()) {
                    errors.at(
                        &alias,
                        format!("the alias `{}` is given twice: keep one of them", alias.value()),
                    );
                }
                self.aliases.push(alias);
            }
            "version" => self.version = Some(keys::number(key, input, "2", 1)?),
            "max_size" => self.max_size = Some(keys::number(key, input, "1_000_000", 1)?),
            "upcast_from" => self.upcast_from = Some(keys::value(key, input, "OldType")?),
            "session" => self.session = Some(session(keys::value(key, input, "order_id")?)?),
            "crate" => self.krate = Some(keys::krate(key, input)?),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn session(value: Expr) -> syn::Result<Session> {
    match value {
        Expr::Path(path) if path.qself.is_none() => match path.path.get_ident() {
            Some(field) => Ok(Session::Field(Member::Named(field.clone()))),
            None => Ok(Session::Function(path.path)),
        },
        Expr::Lit(ExprLit { lit: Lit::Int(index), .. }) => {
            let span = index.span();
            let index = index
                .base10_parse::<u32>()
                .map_err(|_| syn::Error::new(span, "`session` needs a field's index"))?;
            Ok(Session::Field(Member::Unnamed(syn::Index { index, span })))
        }
        other => Err(syn::Error::new(
            other.span(),
            "`session` names a field (`session = order_id`), a tuple's index (`session = 0`), or a function of the event (`session = self::session_of`)",
        )),
    }
}
