//! The implementation of `DistributedEvent` that comes of it.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Generics, parse_quote};

use super::attr::Session;
use super::model::Event;

pub(crate) fn event(event: &Event<'_>) -> TokenStream {
    let Event { keys, name, .. } = event;
    let topic = keys.topic.iter().map(|topic| {
        quote! {
            const TOPIC: ::core::option::Option<&'static ::core::primitive::str> = ::core::option::Option::Some(#topic);
        }
    });
    let lane = keys.lane.iter().map(|lane| quote! { const LANE: &'static ::core::primitive::str = #lane; });
    let version =
        keys.version.iter().map(|version| quote! { const VERSION: ::core::primitive::u32 = #version; });
    let max_size =
        keys.max_size.iter().map(|size| quote! { const MAX_SIZE: ::core::primitive::usize = #size; });
    let aliases = (!keys.aliases.is_empty()).then(|| {
        let aliases = &keys.aliases;
        quote! { const ALIASES: &'static [&'static ::core::primitive::str] = &[#(#aliases),*]; }
    });
    let session = keys.session.as_ref().map(|session| {
        let key = match session {
            Session::Field(member) => quote_spanned! { member.span()=> &self.#member },
            Session::Function(function) => quote_spanned! { function.span()=> &#function(self) },
        };
        quote! {
            const HAS_SESSION: ::core::primitive::bool = true;
            fn session_id(&self) -> ::core::option::Option<__de::__private::String> {
                __de::__private::SessionKey::session_id(#key)
            }
        }
    });
    let upcast = keys.upcast_from.as_ref().map(|old| {
        quote_spanned! { old.span()=>
            const OLDEST_VERSION: ::core::primitive::u32 = <#old as __de::DistributedEvent>::OLDEST_VERSION;
            fn decode(
                version: ::core::primitive::u32,
                body: &[::core::primitive::u8],
            ) -> ::core::result::Result<Self, __de::DecodeError> {
                __de::__private::decode_or_upcast::<Self, #old>(version, body)
            }
        }
    });
    let checked = keys.upcast_from.as_ref().and_then(|old| {
        let own = &event.input.ident;
        // Generic events have no constants to compare outside of their implementation.
        event.input.generics.params.is_empty().then(|| {
            quote_spanned! { old.span()=>
                const _: () = __de::__private::check_upcast::<#own, #old>();
            }
        })
    });
    let body = quote! {
        const NAME: &'static ::core::primitive::str = #name;
        #(#topic)* #(#lane)* #(#version)* #(#max_size)* #aliases #session #upcast
    };
    wrap(event, &body, checked.as_ref())
}

/// An implementation that keeps the rest of the program compiling after a mistake.
pub(crate) fn stub(event: &Event<'_>) -> TokenStream {
    if event.input.generics.lifetimes().next().is_some() || matches!(event.input.data, syn::Data::Union(_)) {
        return TokenStream::new();
    }
    let name = &event.name;
    wrap(event, &quote! { const NAME: &'static ::core::primitive::str = #name; }, None)
}

fn wrap(event: &Event<'_>, body: &TokenStream, beside: Option<&TokenStream>) -> TokenStream {
    let (krate, ident) = (&event.krate, &event.input.ident);
    let generics = bounded(&event.input.generics);
    let (impl_generics, _, where_clause) = generics.split_for_impl();
    let (_, type_generics, _) = event.input.generics.split_for_impl();
    quote! {
        #[doc(hidden)]
        #[allow(unused_qualifications, clippy::all, clippy::pedantic, clippy::nursery)]
        const _: () = {
            use #krate as __de;
            #[automatically_derived]
            impl #impl_generics __de::DistributedEvent for #ident #type_generics #where_clause {
                #body
            }
            #beside
        };
    }
}

/// Generic events are events where their parameters let them be encoded and decoded.
fn bounded(generics: &Generics) -> Generics {
    let mut generics = generics.clone();
    if !generics.params.is_empty() {
        generics.make_where_clause().predicates.push(parse_quote! {
            Self: __de::__private::Serialize + __de::__private::DeserializeOwned
                + ::core::marker::Send + ::core::marker::Sync + 'static
        });
    }
    generics
}
