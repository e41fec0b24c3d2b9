//! Macros.
use proc_macro::TokenStream;
/// x
#[proc_macro_derive(DistributedEvent, attributes(event))]
pub fn a(_: TokenStream) -> TokenStream { TokenStream::new() }
/// x
#[proc_macro_attribute]
pub fn event_handler(_: TokenStream, i: TokenStream) -> TokenStream { i }
