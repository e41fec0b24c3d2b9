//! Who a relay is to Microsoft Entra ID: what `azure_identity` makes of the configuration and of Azure's own variables.

mod transport;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use azure_core::credentials::{AccessToken, Secret, TokenCredential, TokenRequestOptions};
use azure_core::error::{Error, ErrorKind, ResultExt as _};
use azure_core::http::{ClientMethodOptions, ClientOptions, RetryOptions};
use azure_identity::{
    ClientAssertion, ClientAssertionCredential, ClientAssertionCredentialOptions, ClientSecretCredential,
    ClientSecretCredentialOptions, ManagedIdentityCredential, ManagedIdentityCredentialOptions,
    UserAssignedId,
};

use crate::config::{Credential, Given};

/// # Errors
/// With what is missing; no secret is repeated.
pub(super) fn credential(of: &Credential) -> Result<Arc<dyn TokenCredential>, String> {
    let client_options = ClientOptions {
        transport: Some(transport::transport()?),
        // The relay tries again by itself, and tells why.
        retry: RetryOptions::none(),
        ..ClientOptions::default()
    };
    match of {
        Credential::Managed { client_id } => {
            let user_assigned_id = client_id.clone().map(UserAssignedId::ClientId);
            let options = ManagedIdentityCredentialOptions { user_assigned_id, client_options };
            Ok(ManagedIdentityCredential::new(Some(options)).map_err(|error| error.to_string())?)
        }
        Credential::Workload { client_id, tenant_id, token_file } => {
            let file = token_file.as_ref().map(|file| file.display().to_string());
            let file = TokenFile(said(file.as_ref(), "token_file", "AZURE_FEDERATED_TOKEN_FILE")?.into());
            let client_id = said(client_id.as_ref(), "client_id", "AZURE_CLIENT_ID")?;
            let tenant_id = said(tenant_id.as_ref(), "tenant_id", "AZURE_TENANT_ID")?;
            let options = ClientAssertionCredentialOptions { client_options };
            let made = ClientAssertionCredential::new(tenant_id, client_id, file, Some(options));
            Ok(made.map_err(|error| unusable(&error))?)
        }
        Credential::Secret { client_id, tenant_id, secret } => {
            // It may be renewed later, and has to be there now.
            let secret_now = secret.text()?;
            let application = Application {
                client_id: said(client_id.as_ref(), "client_id", "AZURE_CLIENT_ID")?,
                tenant_id: said(tenant_id.as_ref(), "tenant_id", "AZURE_TENANT_ID")?,
                secret: secret.clone(),
                client_options,
                last: Mutex::default(),
            };
            application.with(secret_now)?;
            Ok(Arc::new(application))
        }
    }
}

fn unusable(error: &Error) -> String {
    format!("{error}: look at `tenant_id`, `client_id` and the environment variable AZURE_AUTHORITY_HOST")
}

fn said(text: Option<&String>, key: &str, name: &str) -> Result<String, String> {
    let text = text.cloned().or_else(|| variable(name));
    text.ok_or_else(|| format!("say `{key}`, or set the environment variable {name}"))
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// A pod's token, which Kubernetes renews: read for each request, where `azure_identity` would keep it for ten minutes.
#[derive(Debug)]
struct TokenFile(PathBuf);

#[async_trait]
impl ClientAssertion for TokenFile {
    async fn secret(&self, _: Option<ClientMethodOptions<'_>>) -> azure_core::Result<String> {
        let text = std::fs::read_to_string(&self.0);
        let unread = || format!("the token file {} can't be read", self.0.display());
        Ok(text.with_context_fn(ErrorKind::Credential, unread)?.trim().to_owned())
    }
}

/// An application by its secret: another credential to `azure_identity` whenever that was renewed.
#[derive(Debug)]
struct Application {
    client_id: String,
    tenant_id: String,
    secret: Given,
    client_options: ClientOptions,
    last: Mutex<Option<(Secret, Arc<ClientSecretCredential>)>>,
}

impl Application {
    fn with(&self, secret: String) -> Result<Arc<ClientSecretCredential>, String> {
        let secret = Secret::from(secret);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, credential)) = &*last
            && *of == secret
        {
            return Ok(Arc::clone(credential));
        }
        let options = ClientSecretCredentialOptions { client_options: self.client_options.clone() };
        let (tenant_id, client_id) = (&self.tenant_id, self.client_id.clone());
        let made = ClientSecretCredential::new(tenant_id, client_id, secret.clone(), Some(options));
        let made = made.map_err(|error| unusable(&error))?;
        *last = Some((secret, Arc::clone(&made)));
        Ok(made)
    }
}

#[async_trait]
impl TokenCredential for Application {
    async fn get_token(
        &self,
        scopes: &[&str],
        options: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        let credential = self.secret.text().and_then(|secret| self.with(secret));
        let credential = credential.map_err(|reason| Error::with_message(ErrorKind::Credential, reason))?;
        credential.get_token(scopes, options).await
    }
}
