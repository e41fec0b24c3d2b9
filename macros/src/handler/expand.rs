//! The type beside the function, its implementation of `DeclaredHandler`, and its record.

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Ident, ItemFn, Path, parse_quote};

use super::attr::{Keys, Retry};
use super::model::{Argument, Handler};

pub(crate) fn handler(handler: &Handler<'_>, keys: &Keys) -> TokenStream {
    let function = handler.function;
    let name = &function.sig.ident;
    let event = handler.event;
    let call = call(handler);
    let declaration = declaration(name, keys);
    let states: Vec<_> = handler
        .arguments
        .iter()
        .filter_map(|argument| match argument {
            Argument::State(state) => Some(quote! { <#state as __de::__private::StateType>::key() }),
            _ => None,
        })
        .collect();
    let count = states.len();
    let members = quote! {
        type Event = #event;
        const DECLARATION: __de::__private::Declaration = #declaration;
        fn states() -> __de::__private::Vec<__de::__private::StateKey> {
            ::core::convert::From::<[__de::__private::StateKey; #count]>::from([#(#states),*])
        }
    };
    let outcome = quote! { __de::__private::BoxFuture<'a, ::core::result::Result<(), __de::HandlerError>> };
    let implementation = match handler.transaction() {
        Some(transaction) => {
            let database = quote_spanned! { transaction.span()=>
                <#transaction as __de::__private::TransactionType>::Database
            };
            quote! {
                #[automatically_derived]
                impl __de::__private::DeclaredHandler<#database> for #name {
                    #members
                    fn call<'a>(
                        __event: Self::Event,
                        __tx: &'a mut __de::__private::Transaction<'_, #database>,
                        __scope: __de::__private::HandlerScope<'a>,
                    ) -> #outcome {
                        #call
                    }
                }
                __de::__private::inventory::submit! { __de::__private::HandlerRecord::declared::<#name, #database>() }
            }
        }
        None => quote! {
            #[automatically_derived]
            impl __de::__private::PlainHandler for #name {
                #members
                fn call<'a>(__event: Self::Event, __scope: __de::__private::HandlerScope<'a>) -> #outcome {
                    #call
                }
            }
            #[automatically_derived]
            impl<DB: __de::__private::Storage> __de::__private::DeclaredHandler<DB> for #name {
                type Event = <Self as __de::__private::PlainHandler>::Event;
                const DECLARATION: __de::__private::Declaration =
                    <Self as __de::__private::PlainHandler>::DECLARATION;
                fn states() -> __de::__private::Vec<__de::__private::StateKey> {
                    <Self as __de::__private::PlainHandler>::states()
                }
                fn call<'a>(
                    __event: <Self as __de::__private::PlainHandler>::Event,
                    _: &'a mut __de::__private::Transaction<'_, DB>,
                    __scope: __de::__private::HandlerScope<'a>,
                ) -> #outcome {
                    <Self as __de::__private::PlainHandler>::call(__event, __scope)
                }
            }
            __de::__private::inventory::submit! { __de::__private::HandlerRecord::plain::<#name>() }
        },
    };
    beside(function, keys, &implementation)
}

/// The call of the function, its future boxed here, so that one that is not `Send` is found here.
fn call(handler: &Handler<'_>) -> TokenStream {
    let name = &handler.function.sig.ident;
    let states: Vec<_> = handler
        .arguments
        .iter()
        .enumerate()
        .filter_map(|(index, argument)| match argument {
            Argument::State(state) => Some((format_ident!("__state_{index}"), *state)),
            _ => None,
        })
        .map(|(variable, state)| {
            quote! {
                let #variable = match <#state as __de::__private::StateType>::of(&__scope) {
                    ::core::result::Result::Ok(state) => state,
                    ::core::result::Result::Err(missing) => return ::core::result::Result::Err(missing),
                };
            }
        })
        .collect();
    let event = if handler.by_reference {
        quote! { &__event }
    } else {
        quote! { __event }
    };
    let arguments = handler.arguments.iter().enumerate().map(|(index, argument)| match argument {
        Argument::Transaction(_) => quote! { __tx },
        Argument::Context(context) => quote_spanned! { context.span()=> __scope.context() },
        Argument::State(_) => {
            let variable = format_ident!("__state_{index}");
            quote! { #variable }
        }
    });
    let output = match &handler.function.sig.output {
        syn::ReturnType::Type(_, output) => output.span(),
        syn::ReturnType::Default => name.span(),
    };
    let answered = quote_spanned! { output=> __de::__private::HandlerOutcome::into_outcome(__answer) };
    quote_spanned! { name.span()=>
        __de::__private::boxed(async move {
            #(#states)*
            let __answer = #name(#event, #(#arguments),*).await;
            #answered
        })
    }
}

fn declaration(name: &Ident, keys: &Keys) -> TokenStream {
    let text = name.to_string();
    let subscription = &keys.subscription;
    let retry = keys.retry.as_ref().map(retry);
    let batch = keys.batch.map(|(events, _)| quote! { .batch(#events) });
    let timeout = keys.timeout_ms.map(|ms| quote! { .timeout(::core::time::Duration::from_millis(#ms)) });
    let unordered = keys.unordered.then(|| quote! { .unordered() });
    quote! {
        __de::__private::Declaration {
            name: #text,
            module: ::core::module_path!(),
            file: ::core::file!(),
            line: ::core::line!(),
            settings: __de::HandlerSettings::new(#subscription) #retry #batch #timeout #unordered,
        }
    }
}

fn retry(retry: &Retry) -> TokenStream {
    let attempts = retry.attempts.map(|attempts| quote! { .attempts(#attempts) });
    let initial = retry.initial_ms.map(|ms| quote! { .initial(::core::time::Duration::from_millis(#ms)) });
    let max = retry.max_ms.map(|ms| quote! { .max(::core::time::Duration::from_millis(#ms)) });
    let multiplier = retry.multiplier.map(|multiplier| quote! { .multiplier(#multiplier) });
    let jitter = retry.jitter.map(|jitter| quote! { .jitter(#jitter) });
    quote! { .retry(__de::RetryPolicy::DEFAULT #attempts #initial #max #multiplier #jitter) }
}

/// A handler in name only, which keeps the rest of the program compiling after a mistake.
pub(crate) fn stub(function: &ItemFn, keys: &Keys) -> TokenStream {
    let name = &function.sig.ident;
    beside(
        function,
        keys,
        &quote! {
            impl<DB: __de::__private::Storage> __de::__private::DeclaredHandler<DB> for #name {
                type Event = __de::__private::NoEvent;
                const DECLARATION: __de::__private::Declaration = __de::__private::NO_DECLARATION;
                fn states() -> __de::__private::Vec<__de::__private::StateKey> {
                    __de::__private::Vec::new()
                }
                fn call<'a>(
                    _: __de::__private::NoEvent,
                    _: &'a mut __de::__private::Transaction<'_, DB>,
                    _: __de::__private::HandlerScope<'a>,
                ) -> __de::__private::BoxFuture<'a, ::core::result::Result<(), __de::HandlerError>> {
                    __de::__private::boxed(async move { ::core::result::Result::Ok(()) })
                }
            }
        },
    )
}

fn beside(function: &ItemFn, keys: &Keys, implementation: &TokenStream) -> TokenStream {
    let (name, visibility) = (&function.sig.ident, &function.vis);
    let krate: Path = keys.krate.clone().unwrap_or_else(|| parse_quote!(::distributed_events));
    // With the conditions of the function, or it would be gone and this not.
    let conditions: Vec<_> =
        function.attrs.iter().filter(|attribute| attribute.path().is_ident("cfg")).collect();
    quote! {
        #(#conditions)*
        #[doc(hidden)]
        #[allow(non_camel_case_types, dead_code, missing_debug_implementations, missing_copy_implementations, unnameable_types)]
        #visibility struct #name {}

        #(#conditions)*
        #[doc(hidden)]
        #[allow(unused_qualifications, clippy::all, clippy::pedantic, clippy::nursery)]
        const _: () = {
            use #krate as __de;
            #implementation
        };
    }
}
