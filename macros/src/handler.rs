//! `#[event_handler]`.

mod attr;
mod expand;
mod model;

use proc_macro2::TokenStream;
use quote::quote;
use syn::ItemFn;

use crate::diagnostics::Diagnostics;

pub(crate) fn expand(attribute: TokenStream, item: &TokenStream) -> TokenStream {
    let function: ItemFn = match syn::parse2(item.clone()) {
        Ok(function) => function,
        Err(error) => {
            let ours = syn::Error::new(
                error.span(),
                "`#[event_handler]` stands on an async function: `async fn handle(event: MyEvent) -> Result<(), HandlerError>`",
            )
            .into_compile_error();
            // The item stays, so that what uses it does not fail as well.
            return quote! { #ours #item };
        }
    };
    let mut errors = Diagnostics::default();
    let keys = attr::Keys::read(attribute, &function, &mut errors);
    let model = model::Handler::new(&function, &keys, &mut errors);
    let added = match (errors.finish(), &model) {
        (Ok(()), Some(model)) => expand::handler(model, &keys),
        (Ok(()), None) => TokenStream::new(),
        // In an `impl` nothing can stand beside the function.
        (Err(found), _) if function.sig.receiver().is_some() => found,
        (Err(found), _) => {
            let stub = expand::stub(&function, &keys);
            quote! { #found #stub }
        }
    };
    quote! { #item #added }
}
