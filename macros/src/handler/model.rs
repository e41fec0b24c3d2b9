//! What the function's signature means, and every rule about it.

use syn::spanned::Spanned;
use syn::visit_mut::VisitMut;
use syn::{FnArg, Ident, ItemFn, Lifetime, ReturnType, Type, TypeReference};

use super::attr::Keys;
use crate::diagnostics::Diagnostics;

const ARGUMENTS: &str =
    "after its event a handler takes, in any order: `&mut Transaction<'_, DB>`, `&EventContext`, `State<T>`";

pub(crate) struct Handler<'a> {
    pub(crate) function: &'a ItemFn,
    pub(crate) event: &'a Type,
    pub(crate) by_reference: bool,
    pub(crate) arguments: Vec<Argument<'a>>,
}

/// An argument after the event.
pub(crate) enum Argument<'a> {
    /// The transaction's type, its lifetimes made `'static`.
    Transaction(Box<Type>),
    Context(&'a Type),
    State(&'a Type),
}

impl<'a> Handler<'a> {
    pub(crate) fn new(function: &'a ItemFn, keys: &Keys, errors: &mut Diagnostics) -> Option<Self> {
        check_function(function, errors);
        let mut inputs = function.sig.inputs.iter();
        let first = match inputs.next() {
            Some(FnArg::Typed(first)) => first,
            Some(FnArg::Receiver(receiver)) => {
                errors.at(
                    receiver,
                    "a handler is a free function, not a method: pass what it needs as `State<T>`",
                );
                return None;
            }
            None => {
                errors.at(
                    &function.sig.ident,
                    "a handler takes its event first: `async fn handle(event: MyEvent)`",
                );
                return None;
            }
        };
        let (event, by_reference) = match first.ty.as_ref() {
            Type::Reference(TypeReference { mutability: Some(_), elem, .. }) => {
                errors.at(
                    &first.ty,
                    "the first argument is the event, by value or as `&MyEvent`; the transaction comes after it",
                );
                (elem.as_ref(), true)
            }
            Type::Reference(reference) => (reference.elem.as_ref(), true),
            other => (other, false),
        };
        if let Type::ImplTrait(found) = event {
            errors.at(found, "a handler names its event's type: `impl Trait` stands for many");
        }
        let mut arguments = Vec::new();
        for input in inputs {
            if let FnArg::Typed(input) = input {
                match argument(&input.ty) {
                    Some(argument) => arguments.push((argument, input)),
                    None => errors.at(&input.ty, format!("a handler can't take this argument: {ARGUMENTS}")),
                }
            }
        }
        let mut repeated = |same: fn(&Argument<'_>) -> bool, what: &str| {
            for (_, input) in arguments.iter().filter(|(argument, _)| same(argument)).skip(1) {
                errors.at(input, format!("a second {what}: a handler has one, take this one away"));
            }
        };
        repeated(|argument| matches!(argument, Argument::Transaction(_)), "transaction");
        repeated(|argument| matches!(argument, Argument::Context(_)), "context");
        let arguments: Vec<_> = arguments.into_iter().map(|(argument, _)| argument).collect();
        let handler = Self { function, event, by_reference, arguments };
        if let (Some((_, span)), None) = (keys.batch, handler.transaction()) {
            errors.at_span(
                span,
                "a batch shares one transaction, and this handler takes none: add `tx: &mut Transaction<'_, DB>`, or take `batch` away",
            );
        }
        Some(handler)
    }

    pub(crate) fn transaction(&self) -> Option<&Type> {
        self.arguments.iter().find_map(|argument| match argument {
            Argument::Transaction(transaction) => Some(transaction.as_ref()),
            _ => None,
        })
    }
}

fn check_function(function: &ItemFn, errors: &mut Diagnostics) {
    let signature = &function.sig;
    if signature.asyncness.is_none() {
        errors.at(signature.fn_token, "a handler is async: write `async fn`");
    }
    if !signature.generics.params.is_empty() {
        errors.at(
            &signature.generics,
            "a handler can't be generic, since it is registered by its name: write one function for each event, or implement `Handler` for a generic type",
        );
    }
    if let Some(constness) = &signature.constness {
        errors.at(constness, "a handler can't be const: take `const` away");
    }
    if let Some(abi) = &signature.abi {
        errors.at(abi, "a handler can't be extern: take `extern` away");
    }
    if let Some(variadic) = &signature.variadic {
        errors.at(variadic, format!("a handler can't be variadic: {ARGUMENTS}"));
    }
    if !matches!(signature.safety, syn::Safety::Default) {
        errors.at(
            &signature.safety,
            "a handler can't be unsafe, since the library calls it: keep `unsafe` inside it",
        );
    }
    if let ReturnType::Default = signature.output {
        errors.at_span(
            signature.paren_token.span.close(),
            "a handler says how it went: return `Result<(), HandlerError>`",
        );
    }
}

fn argument(ty: &Type) -> Option<Argument<'_>> {
    match ty {
        Type::Reference(reference) if reference.mutability.is_some() => {
            let mut transaction = reference.elem.clone();
            StaticLifetimes.visit_type_mut(&mut transaction);
            matches!(*transaction, Type::Path(_)).then_some(Argument::Transaction(transaction))
        }
        Type::Reference(reference) if matches!(*reference.elem, Type::Path(_)) => {
            Some(Argument::Context(&reference.elem))
        }
        Type::Path(path) if path.path.segments.last().is_some_and(|last| last.ident == "State") => {
            Some(Argument::State(ty))
        }
        _ => None,
    }
}

/// Gives a transaction's type a lifetime where it can stand in an implementation's head.
struct StaticLifetimes;

impl VisitMut for StaticLifetimes {
    fn visit_lifetime_mut(&mut self, lifetime: &mut Lifetime) {
        lifetime.ident = Ident::new("static", lifetime.span());
    }
}
