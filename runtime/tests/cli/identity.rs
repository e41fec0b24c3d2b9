//! Relays that come in by an identity of Microsoft Entra ID, as far as that can be had without Azure: a door that gives out
//! tokens, of which the emulator checks the signature.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;
use tempfile::NamedTempFile;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{self, ServerConfig, ServerConnection, StreamOwned};

use crate::emulator::Emulator;
use crate::program::Program;
use crate::relay::{publish, stop, until};
use crate::rows::Rows;

/// As the emulator takes it for one of Entra's.
fn token(key: &str) -> String {
    let end = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 3_600;
    let resource = "sb%3A%2F%2Flocalhost%2F";
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).unwrap();
    mac.update(format!("{resource}\n{end}").as_bytes());
    let signed = base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes());
    let signed = signed.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    format!("SharedAccessSignature sr={resource}&sig={signed}&se={end}&skn=RootManageSharedAccessKey")
}

/// What a door answers to a request: the status, and the body.
type Answer = (&'static str, Value);

/// A server that gives out tokens, and keeps what it was asked: the head of each request, and its body.
struct Door {
    url: String,
    /// What is to be trusted, in PEM.
    certificate: NamedTempFile,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Door {
    /// A machine's own, which gives out tokens for the emulator as IMDS does.
    fn of_the_machine() -> Self {
        let end = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 3_600;
        let answer = json!({
            "access_token": token(Emulator::KEY), "client_id": "ours", "expires_in": "3600",
            "expires_on": end.to_string(), "resource": "https://servicebus.azure.net/", "token_type": "Bearer",
        });
        Self::open("http", "", Ok, move |_| ("200 OK", answer.clone()))
    }

    /// Entra ID's, which speaks TLS alone.
    fn of_entra(answer: impl Fn(&str) -> Answer + Send + 'static) -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = certificate.self_signed(&key).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key.serialize_der().try_into().unwrap())
            .unwrap();
        let config = Arc::new(config);
        let accept = move |stream| Ok(StreamOwned::new(ServerConnection::new(Arc::clone(&config))?, stream));
        Self::open("https", &certificate.pem(), accept, answer)
    }

    fn open<S: Read + Write>(
        scheme: &str,
        trusted: &str,
        accept: impl Fn(TcpStream) -> Result<S, rustls::Error> + Send + 'static,
        answer: impl Fn(&str) -> Answer + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("{scheme}://{}", listener.local_addr().unwrap());
        let mut certificate = NamedTempFile::new().unwrap();
        certificate.write_all(trusted.as_bytes()).unwrap();
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let keeping = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let mut stream = BufReader::new(accept(stream).unwrap());
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") && stream.read_line(&mut head).unwrap() > 0 {}
                let length = head.to_ascii_lowercase().lines().find_map(|line| {
                    line.strip_prefix("content-length: ").map(|length| length.parse().unwrap())
                });
                let mut body = vec![0; length.unwrap_or(0)];
                stream.read_exact(&mut body).unwrap();
                let request = head + std::str::from_utf8(&body).unwrap();
                let (status, body) = answer(&request);
                keeping.lock().unwrap().push(request);
                // Whoever has no JSON to say says a page.
                let body = body.as_str().map_or_else(|| body.to_string(), ToOwned::to_owned);
                let length = body.len();
                let head =
                    format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
                stream.get_mut().write_all((head + &body).as_bytes()).unwrap();
            }
        });
        Self { url, certificate, asked }
    }

    /// An environment in which it is Entra ID's, and these are added.
    fn and<'a>(&'a self, others: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let certificate = self.certificate.path().to_str().unwrap();
        [&[("AZURE_AUTHORITY_HOST", self.url.as_str()), ("SSL_CERT_FILE", certificate)], others].concat()
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// What Entra ID answers to whom it knows.
fn welcome() -> Answer {
    ("200 OK", json!({ "access_token": token(Emulator::KEY), "expires_in": 3_600, "token_type": "Bearer" }))
}

/// And to whom it does not; the line break is its own.
fn refusal() -> Answer {
    let description = "AADSTS7000215: wrong secret\r\nTrace ID: 1";
    let answer =
        json!({ "error": "invalid_client", "error_codes": [7_000_215], "error_description": description });
    ("401 Unauthorized", answer)
}

/// A relay that comes in by an identity, at an emulator that has its topic.
struct Relay {
    emulator: Emulator,
    program: Program,
}

impl Relay {
    fn new(credential: &str) -> Self {
        let program = Program::new();
        let authority = program.path("authority.pem").display().to_string();
        let emulator = Emulator::start_with(&["--write-certificate", &authority]);
        program.write("relay.toml", &emulator.config());
        assert_eq!(program.asked(&emulator, &["topology", "--ensure"]).status, 0);
        let config = format!(
            "[outbox]\npoll_interval = \"20ms\"\nretry_initial = \"20ms\"\nretry_max = \"200ms\"\n[lanes.default]\nnamespace = \"localhost:{}\"\n{credential}\n\
             root_certificates = \"authority.pem\"\n[log]\nfilter = \"trace\"\n",
            emulator.port()
        );
        program.write("relay.toml", &config);
        Self { emulator, program }
    }

    /// Its log goes to a file, which takes all of it while nobody reads.
    fn start(&self, environment: &[(&str, &str)]) -> Child {
        let log = std::fs::File::create(self.program.path("log")).unwrap();
        let mut command = self.program.command(&["--config", "relay.toml", "relay", "--outbox-only"]);
        command.envs(environment.iter().copied()).stdout(Stdio::piped()).stderr(log).spawn().unwrap()
    }

    /// Its log, in which no secret is.
    fn log(&self) -> String {
        let log = std::fs::read_to_string(self.program.path("log")).unwrap();
        assert!(!log.contains("sig=") && !log.contains("s3cret"), "{log}");
        log
    }

    /// Relays events with it.
    async fn relays(&self, environment: &[(&str, &str)]) {
        let rows = Rows::of(&self.program).await;
        publish(&rows, 0..3).await;
        let child = self.start(environment);
        until(&rows, "SELECT count(*) FROM outbox WHERE status = 'sent'", 3).await;
        assert_eq!(stop(child).status, 0, "{}", self.log());
        let (_read, _kept) = (self.log(), &self.emulator);
    }

    /// Has an event to relay, and says this instead.
    async fn tells(&self, environment: &[(&str, &str)], expected: &str) {
        publish(&Rows::of(&self.program).await, 0..1).await;
        let child = self.start(environment);
        eventually(|| self.log().contains(expected), expected).await;
        assert_eq!(stop(child).status, 0, "{}", self.log());
    }
}

async fn eventually(is_so: impl Fn() -> bool, what: &str) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < deadline, "never came: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_managed_identity_asks_the_machines_own_door() {
    let (relay, door) =
        (Relay::new("credential = \"managed-identity\"\nclient_id = \"ours\""), Door::of_the_machine());
    relay.relays(&[("AZURE_POD_IDENTITY_AUTHORITY_HOST", &door.url)]).await;
    let asked = door.asked();
    let expected = "GET /metadata/identity/oauth2/token?api-version=2019-08-01\
        &resource=https%3A%2F%2Fservicebus.azure.net%2F&client_id=ours HTTP/1.1\r\n";
    assert!(asked[0].starts_with(expected) && asked[0].contains("metadata: true\r\n"), "{}", asked[0]);
    assert_eq!(asked.len(), 1, "a token is kept while it is good: {asked:?}");
}

#[tokio::test]
async fn a_managed_identity_of_an_app_shows_its_header() {
    let (relay, door) = (Relay::new("credential = \"managed-identity\""), Door::of_the_machine());
    let at = format!("{}/msi/token", door.url);
    relay.relays(&[("IDENTITY_ENDPOINT", &at), ("IDENTITY_HEADER", "s3cret")]).await;
    let asked = &door.asked()[0];
    assert!(asked.starts_with("GET /msi/token?api-version=2019-08-01&resource="), "{asked}");
    assert!(asked.contains("x-identity-header: s3cret\r\n"), "{asked}");
}

#[tokio::test]
async fn a_secret_and_a_pods_file_are_sent_to_the_authority() {
    let way = "credential = \"client-secret\"\ntenant_id = \"our-tenant\"\nclient_id = \"ours\"\nclient_secret_env = \"SECRET\"";
    let (relay, door) = (Relay::new(way), Door::of_entra(|_| welcome()));
    relay.relays(&door.and(&[("SECRET", "s3cret&more")])).await;
    let asked = door.asked()[0].clone();
    assert!(asked.starts_with("POST /our-tenant/oauth2/v2.0/token HTTP/1.1\r\n"), "{asked}");
    assert!(asked.contains("client_id=ours&client_secret=s3cret%26more&"), "{asked}");
    let scope = "grant_type=client_credentials&scope=https%3A%2F%2Fservicebus.azure.net%2F%2F.default";
    assert!(asked.ends_with(scope), "{asked}");

    let (relay, door) = (Relay::new("credential = \"workload-identity\""), Door::of_entra(|_| welcome()));
    let file = relay.program.write("token", "s3cret-of-the-pod\n");
    let pod = [
        ("AZURE_TENANT_ID", "our-tenant"),
        ("AZURE_CLIENT_ID", "ours"),
        ("AZURE_FEDERATED_TOKEN_FILE", file.as_str()),
    ];
    relay.relays(&door.and(&pod)).await;
    let asked = door.asked()[0].clone();
    assert!(asked.contains("client_assertion=s3cret-of-the-pod&client_assertion_type="), "{asked}");
}

#[tokio::test]
async fn what_is_renewed_in_its_file_is_sent_without_a_restart() {
    for way in ["client-secret\"\nclient_secret_file", "workload-identity\"\ntoken_file"] {
        let way = format!("credential = \"{way} = \"file\"\ntenant_id = \"t\"\nclient_id = \"ours\"");
        let relay = Relay::new(&way);
        let door = Door::of_entra(|asked| if asked.contains("renewed") { welcome() } else { refusal() });
        relay.program.write("file", "s3cret");
        let rows = Rows::of(&relay.program).await;
        publish(&rows, 0..1).await;
        let child = relay.start(&door.and(&[]));
        eventually(|| !door.asked().is_empty(), "a request").await;
        relay.program.write("file", "s3cret-renewed");
        until(&rows, "SELECT count(*) FROM outbox WHERE status = 'sent'", 1).await;
        assert_eq!(stop(child).status, 0, "{}", relay.log());
    }
}

#[tokio::test]
async fn why_there_is_no_token_is_told() {
    let way = "credential = \"client-secret\"\ntenant_id = \"t\"\nclient_id = \"ours\"\nclient_secret_file = \"secret\"";
    let relay = Relay::new(way);
    relay.program.write("secret", "s3cret");
    let door = Door::of_entra(|_| refusal());
    relay.tells(&door.and(&[]), "AADSTS7000215: wrong secret").await;

    let door = Door::of_entra(|_| ("502 Bad Gateway", json!("<html>a proxy's</html>")));
    relay.tells(&door.and(&[]), ": it answers with 502 Bad Gateway, and not as Entra ID does").await;

    // Nobody listens there.
    let relay = Relay::new("credential = \"managed-identity\"");
    relay
        .tells(&[("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://127.0.0.1:1")], "127.0.0.1:1: client error")
        .await;
}

#[test]
fn what_an_identity_lacks_is_told_before_the_relay_starts() {
    let program = Program::new();
    let check = |way: &str, environment: &[(&str, &str)]| {
        program.write("relay.toml", &format!("[lanes.default]\nnamespace = \"n\"\n{way}\n"));
        let mut command = program.command(&["--config", "relay.toml", "relay", "--check"]);
        for name in ["AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_FEDERATED_TOKEN_FILE", "IDENTITY_ENDPOINT"]
        {
            command.env_remove(name);
        }
        let said = crate::program::said(&command.envs(environment.iter().copied()).output().unwrap());
        (said.status, said.output + &said.error)
    };
    let secret = "credential = \"client-secret\"\nclient_secret_env = \"SECRET\"\nclient_id = \"c\"";
    for (way, environment, told) in [
        (
            secret,
            &[][..],
            "relay.toml:4: [lanes.default] client_secret_env: the environment variable SECRET is not set",
        ),
        (secret, &[("SECRET", "s3cret")], "relay.toml:2: [lanes.default] namespace: say `tenant_id`, or set"),
        (
            secret,
            &[
                ("SECRET", "s3cret"),
                ("AZURE_TENANT_ID", "t"),
                ("AZURE_AUTHORITY_HOST", "http://login.example.org"),
            ],
            "authority host doesn't use HTTPS scheme: http://login.example.org: look at `tenant_id`, `client_id` and the \
             environment variable AZURE_AUTHORITY_HOST",
        ),
        ("credential = \"workload-identity\"", &[], "AZURE_FEDERATED_TOKEN_FILE"),
    ] {
        let (status, said) = check(way, environment);
        assert!(status == 2 && said.contains(told) && !said.contains("s3cret"), "{way}: {said}");
    }
    let (status, said) = check("credential = \"managed-identity\"", &[]);
    assert_eq!(status, 0, "{said}");
    assert!(said.contains("outbox: default by service-bus:n"), "{said}");
}
