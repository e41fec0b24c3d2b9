//! What was written in `#[event_handler(...)]`.

use proc_macro2::{Span, TokenStream};
use syn::parse::{ParseStream, Parser};
use syn::{Expr, ExprLit, Ident, ItemFn, Lit, LitFloat, LitInt, LitStr, Path, parenthesized};

use crate::diagnostics::Diagnostics;
use crate::keys;

const ACCEPTED: &[&str] = &["subscription", "retry", "batch", "timeout", "unordered", "crate"];
const RETRY: &[&str] = &["attempts", "initial", "max", "multiplier", "jitter"];

#[derive(Default)]
pub(crate) struct Keys {
    pub(crate) subscription: Option<Expr>,
    pub(crate) retry: Option<Retry>,
    pub(crate) batch: Option<(u32, Span)>,
    pub(crate) timeout_ms: Option<u64>,
    pub(crate) unordered: bool,
    pub(crate) krate: Option<Path>,
}

#[derive(Default)]
pub(crate) struct Retry {
    pub(crate) attempts: Option<u32>,
    pub(crate) initial_ms: Option<u64>,
    pub(crate) max_ms: Option<u64>,
    pub(crate) multiplier: Option<f64>,
    pub(crate) jitter: Option<f64>,
}

impl Keys {
    pub(crate) fn read(attribute: TokenStream, function: &ItemFn, errors: &mut Diagnostics) -> Self {
        let mut keys = Self::default();
        let mut named = false;
        let parser = |input: ParseStream<'_>| {
            keys::read(input, "event_handler", ACCEPTED, &[], errors, |key, input, errors| {
                named |= key == "subscription";
                keys.take(key, input, errors)
            });
            Ok(())
        };
        let parsed = parser.parse2(attribute);
        errors.ok(parsed);
        if !named {
            errors.at(
                &function.sig.ident,
                "a handler names its subscription: write `#[event_handler(subscription = \"billing\")]`",
            );
        }
        keys
    }

    fn take(&mut self, key: &Ident, input: ParseStream<'_>, errors: &mut Diagnostics) -> syn::Result<bool> {
        match key.to_string().as_str() {
            "subscription" => {
                let value: Expr = keys::value(key, input, "\"billing\"")?;
                check_subscription(&value, errors);
                self.subscription = Some(value);
            }
            "retry" => self.retry = Some(Retry::read(key, input, errors)?),
            "batch" => {
                let span = key.span();
                self.batch = Some((keys::number(key, input, "50", 1)?, span));
            }
            "timeout" => self.timeout_ms = Some(duration(key, input, "30s")?),
            "unordered" => {
                if input.peek(syn::Token![=]) {
                    return Err(syn::Error::new(
                        key.span(),
                        "`unordered` takes no value: write it alone, or leave it out",
                    ));
                }
                self.unordered = true;
            }
            "crate" => self.krate = Some(keys::krate(key, input)?),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// A literal is checked here, a constant when the bus is built.
fn check_subscription(value: &Expr, errors: &mut Diagnostics) {
    let Expr::Lit(ExprLit { lit, .. }) = value else {
        return;
    };
    let Lit::Str(text) = lit else {
        return errors
            .at(lit, "a subscription is a text: write `subscription = \"billing\"`, or name a constant");
    };
    let length = text.value().chars().count();
    if length == 0 {
        errors.at(lit, "`subscription` is empty: write `subscription = \"billing\"`");
    } else if length > 50 {
        errors.at(
            lit,
            format!(
                "`subscription` has {length} characters, and Service Bus takes 50: choose a shorter name"
            ),
        );
    } else {
        errors.ok(keys::entity("subscription", text, false));
    }
}

impl Retry {
    fn read(key: &Ident, input: ParseStream<'_>, errors: &mut Diagnostics) -> syn::Result<Self> {
        let example = "`retry` needs its settings in parentheses: write `retry(attempts = 5, initial = \"1s\", max = \"5m\")`";
        if !input.peek(syn::token::Paren) {
            return Err(syn::Error::new(key.span(), example));
        }
        let inner;
        parenthesized!(inner in input);
        if inner.is_empty() {
            return Err(syn::Error::new(key.span(), example));
        }
        let mut retry = Self::default();
        keys::read(&inner, "retry", RETRY, &[], errors, |key, input, _| {
            match key.to_string().as_str() {
                "attempts" => retry.attempts = Some(keys::number(key, input, "5", 1)?),
                "initial" => retry.initial_ms = Some(duration(key, input, "1s")?),
                "max" => retry.max_ms = Some(duration(key, input, "5m")?),
                "multiplier" => retry.multiplier = Some(fraction(key, input, "2.0", 1.0, 1000.0)?),
                "jitter" => retry.jitter = Some(fraction(key, input, "0.2", 0.0, 1.0)?),
                _ => return Ok(false),
            }
            Ok(true)
        });
        if let (Some(initial), Some(max)) = (retry.initial_ms, retry.max_ms)
            && initial > max
        {
            errors.at(key, "`initial` is longer than `max`: the first wait can't be longer than the longest");
        }
        Ok(retry)
    }
}

/// `= "30s"`, in milliseconds.
fn duration(key: &Ident, input: ParseStream<'_>, example: &str) -> syn::Result<u64> {
    let text: LitStr = keys::value(key, input, &format!("\"{example}\""))?;
    let wrong = || {
        syn::Error::new(
            text.span(),
            format!(
                "this is no duration: write a number above zero with a unit (ms, s, m, h), as in `{key} = \"{example}\"`"
            ),
        )
    };
    let written = text.value();
    let digits = written.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = written.split_at(digits);
    let unit: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(unit).filter(|ms| *ms > 0).ok_or_else(wrong)
}

/// `= 2.0`, within bounds.
fn fraction(key: &Ident, input: ParseStream<'_>, example: &str, least: f64, most: f64) -> syn::Result<f64> {
    let literal: Lit = keys::value(key, input, example)?;
    let number = match &literal {
        Lit::Float(float) => LitFloat::base10_parse(float),
        Lit::Int(int) => LitInt::base10_parse(int),
        _ => Err(syn::Error::new(literal.span(), "")),
    };
    number.ok().filter(|number| (least..=most).contains(number)).ok_or_else(|| {
        syn::Error::new(
            literal.span(),
            format!("`{key}` is a number from {least} to {most}: write `{key} = {example}`"),
        )
    })
}
