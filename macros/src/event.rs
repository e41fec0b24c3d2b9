//! `#[derive(DistributedEvent)]`.

mod attr;
mod expand;
mod model;

use proc_macro2::TokenStream;
use quote::quote;
use syn::DeriveInput;

use crate::diagnostics::Diagnostics;

pub(crate) fn derive(input: TokenStream) -> TokenStream {
    let input: DeriveInput = match syn::parse2(input) {
        Ok(input) => input,
        Err(error) => return error.into_compile_error(),
    };
    let mut errors = Diagnostics::default();
    let keys = attr::Keys::read(&input.attrs, &mut errors);
    let model = model::Event::new(&input, &keys, &mut errors);
    match errors.finish() {
        Ok(()) => expand::event(&model),
        // Still an event to the rest of the program, so that one mistake gives one error.
        Err(found) => {
            let stub = expand::stub(&model);
            quote! { #found #stub }
        }
    }
}
