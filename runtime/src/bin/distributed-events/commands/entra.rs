//! Tokens of Microsoft Entra ID for a relay: of a managed identity, of a pod's, or for an application's secret. Where they are
//! asked for, Azure's own variables say, and secrets are read anew for each, since they are renewed.

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use azure_core::error::ErrorKind;
use azure_core::time::OffsetDateTime;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::{Request, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tokio::sync::Mutex;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::config::{Credential, Given};
use crate::failure::with_causes;

const PATIENCE: Duration = Duration::from_secs(15);
/// A token that ends sooner is asked for anew.
const MARGIN: Duration = Duration::from_secs(300);
/// What a name of a tenant, which is a domain or an id, has as it is.
const OF_PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_');
/// No answer with a token is longer.
const LONGEST: usize = 64 * 1024;

/// Who the relay is, and the last token that says so.
pub(super) struct Entra {
    way: Way,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    kept: Mutex<Option<(String, AccessToken)>>,
}

/// Where a token is asked for, and with what.
enum Way {
    /// The machine's own door (IMDS), or an app's (`IDENTITY_ENDPOINT`), which has a header of its own.
    Managed {
        door: Uri,
        header: Option<String>,
        client_id: Option<String>,
    },
    Secret {
        authority: Uri,
        client_id: String,
        secret: Given,
    },
    Workload {
        authority: Uri,
        client_id: String,
        file: PathBuf,
    },
}

impl fmt::Debug for Entra {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.way {
            Way::Managed { .. } => "Entra(managed identity)",
            Way::Secret { .. } => "Entra(client secret)",
            Way::Workload { .. } => "Entra(workload identity)",
        })
    }
}

impl Entra {
    /// # Errors
    /// With what is missing; no secret is repeated.
    pub(super) fn of(credential: &Credential) -> Result<Self, String> {
        let way = match credential {
            Credential::Managed { client_id } => managed(client_id.clone())?,
            Credential::Secret { client_id, tenant_id, secret } => {
                // It may be renewed later, and has to be there now.
                secret.text()?;
                let client_id = said(client_id.as_ref(), "client_id", "AZURE_CLIENT_ID")?;
                Way::Secret { authority: authority(tenant_id.as_ref())?, client_id, secret: secret.clone() }
            }
            Credential::Workload { client_id, tenant_id, token_file } => {
                let file = token_file.as_ref().map(|file| file.display().to_string());
                let file = said(file.as_ref(), "token_file", "AZURE_FEDERATED_TOKEN_FILE")?;
                let client_id = said(client_id.as_ref(), "client_id", "AZURE_CLIENT_ID")?;
                Way::Workload { authority: authority(tenant_id.as_ref())?, client_id, file: file.into() }
            }
        };
        Ok(Self { way, client: client()?, kept: Mutex::new(None) })
    }

    async fn token(&self, scope: &str) -> Result<AccessToken, String> {
        let mut kept = self.kept.lock().await;
        if let Some((of, token)) = &*kept
            && of == scope
            && token.expires_on > OffsetDateTime::now_utc() + MARGIN
        {
            return Ok(token.clone());
        }
        let request = self.way.request(scope)?;
        let asked = tokio::time::timeout(PATIENCE, self.ask(request));
        let token = asked.await.map_err(|_elapsed| "no answer came in time".to_owned())??;
        *kept = Some((scope.to_owned(), token.clone()));
        Ok(token)
    }

    async fn ask(&self, request: Request<Full<Bytes>>) -> Result<AccessToken, String> {
        let place = request.uri().authority().map_or_else(String::new, ToString::to_string);
        let away = |error: &dyn fmt::Display| format!("{place} can't be reached: {error}");
        let answer = self.client.request(request).await.map_err(|error| away(&with_causes(&error)))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), LONGEST).collect().await;
        let body = body.map_err(|error| away(&error))?.to_bytes();
        let answer: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        if !status.is_success() {
            // Entra's own words, with the number that its documentation explains.
            let said = ["error_description", "error", "message"].iter().find_map(|key| answer[*key].as_str());
            return Err(format!("{place} answers with {status}: {}", said.unwrap_or("no reason")));
        }
        let token = answer["access_token"].as_str().ok_or_else(|| format!("{place} gives no token"))?;
        let now = OffsetDateTime::now_utc();
        let expires_on = match (number(&answer["expires_on"]), number(&answer["expires_in"])) {
            (Some(at), _) => OffsetDateTime::from_unix_timestamp(at).ok(),
            (None, Some(seconds)) => {
                u64::try_from(seconds).ok().map(|seconds| now + Duration::from_secs(seconds))
            }
            (None, None) => None,
        };
        let expires_on = expires_on.ok_or_else(|| format!("{place} gives a token without its end"))?;
        Ok(AccessToken::new(token.to_owned(), expires_on))
    }
}

impl TokenCredential for Entra {
    // As `async_trait` writes it.
    fn get_token<'own, 'scopes, 'scope, 'options, 'all>(
        &'own self,
        scopes: &'scopes [&'scope str],
        _options: Option<TokenRequestOptions<'options>>,
    ) -> Pin<Box<dyn Future<Output = azure_core::Result<AccessToken>> + Send + 'all>>
    where
        Self: 'all,
        'own: 'all,
        'scopes: 'all,
        'scope: 'all,
        'options: 'all,
    {
        Box::pin(async move {
            let token = self.token(&scopes.join(" ")).await;
            token.map_err(|reason| azure_core::Error::with_message(ErrorKind::Credential, reason))
        })
    }
}

impl Way {
    fn request(&self, scope: &str) -> Result<Request<Full<Bytes>>, String> {
        let made = match self {
            Self::Managed { door, header, client_id } => {
                let resource = scope.strip_suffix("/.default").unwrap_or(scope);
                let version = if header.is_some() { "2019-08-01" } else { "2018-02-01" };
                let mut query = vec![("api-version", version), ("resource", resource)];
                query.extend(client_id.as_ref().map(|id| ("client_id", id.as_str())));
                let request = Request::get(format!("{door}?{}", form(&query)));
                let request = match header {
                    Some(header) => request.header("X-IDENTITY-HEADER", header),
                    None => request.header("Metadata", "true"),
                };
                request.body(Full::default())
            }
            Self::Secret { authority, client_id, secret } => {
                let secret = secret.text()?;
                posted(authority, client_id, scope, &[("client_secret", &secret)])
            }
            Self::Workload { authority, client_id, file } => {
                let assertion = std::fs::read_to_string(file)
                    .map_err(|error| format!("the token file {} can't be read: {error}", file.display()))?;
                let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
                let proof = [("client_assertion_type", kind), ("client_assertion", assertion.trim())];
                posted(authority, client_id, scope, &proof)
            }
        };
        made.map_err(|error| error.to_string())
    }
}

fn posted(
    authority: &Uri,
    client_id: &str,
    scope: &str,
    proof: &[(&str, &str)],
) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
    let mut fields = vec![("client_id", client_id), ("grant_type", "client_credentials"), ("scope", scope)];
    fields.extend_from_slice(proof);
    let request =
        Request::post(authority.clone()).header("content-type", "application/x-www-form-urlencoded");
    request.body(Full::from(form(&fields)))
}

fn form(fields: &[(&str, &str)]) -> String {
    let field =
        |(name, value): &(&str, &str)| format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC));
    fields.iter().map(field).collect::<Vec<_>>().join("&")
}

/// Azure writes numbers as texts here and there.
fn number(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}

fn managed(client_id: Option<String>) -> Result<Way, String> {
    if let (Some(door), Some(header)) = (variable("IDENTITY_ENDPOINT"), variable("IDENTITY_HEADER")) {
        return Ok(Way::Managed { door: uri(&door, "IDENTITY_ENDPOINT")?, header: Some(header), client_id });
    }
    let name = "AZURE_POD_IDENTITY_AUTHORITY_HOST";
    let host = variable(name).unwrap_or_else(|| "http://169.254.169.254".to_owned());
    let door = format!("{}/metadata/identity/oauth2/token", host.trim_end_matches('/'));
    Ok(Way::Managed { door: uri(&door, name)?, header: None, client_id })
}

/// Where Entra ID gives out a tenant's tokens.
fn authority(tenant_id: Option<&String>) -> Result<Uri, String> {
    let name = "AZURE_AUTHORITY_HOST";
    let tenant = said(tenant_id, "tenant_id", "AZURE_TENANT_ID")?;
    let host = variable(name).unwrap_or_else(|| "https://login.microsoftonline.com".to_owned());
    let tenant = utf8_percent_encode(&tenant, OF_PATH);
    let authority = uri(&format!("{}/{tenant}/oauth2/v2.0/token", host.trim_end_matches('/')), name)?;
    let is_here = matches!(authority.host(), Some("localhost" | "127.0.0.1" | "[::1]"));
    if authority.scheme_str() != Some("https") && !is_here {
        return Err(format!("{name} is to begin with https://: secrets are sent there"));
    }
    Ok(authority)
}

fn uri(text: &str, name: &str) -> Result<Uri, String> {
    let uri = text.parse::<Uri>().ok().filter(|uri| uri.scheme().is_some() && uri.host().is_some());
    uri.ok_or_else(|| format!("the environment variable {name} is no URL"))
}

fn said(text: Option<&String>, key: &str, name: &str) -> Result<String, String> {
    text.cloned()
        .or_else(|| variable(name))
        .ok_or_else(|| format!("say `{key}`, or set the environment variable {name}"))
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn client() -> Result<Client<HttpsConnector<HttpConnector>, Full<Bytes>>, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    // Named, because a process-wide provider may be missing, or there may be two.
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
    Ok(Client::builder(TokioExecutor::new()).build(connector))
}
