//! Relays that come in by an identity of Microsoft Entra ID, as far as that can be had without Azure: a door that gives out
//! tokens, of which the emulator checks the signature.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

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

/// A server that gives out tokens, and keeps what it was asked: the head of each request in lower case, and its body.
struct Door {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Door {
    fn open(status: &'static str, answer: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let keeping = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let mut stream = BufReader::new(stream);
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") && stream.read_line(&mut head).unwrap() > 0 {}
                let length = head.to_ascii_lowercase().lines().find_map(|line| {
                    line.strip_prefix("content-length: ").map(|length| length.parse().unwrap())
                });
                let mut body = vec![0; length.unwrap_or(0)];
                stream.read_exact(&mut body).unwrap();
                keeping.lock().unwrap().push(head + std::str::from_utf8(&body).unwrap());
                let length = answer.len();
                let head =
                    format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
                stream.get_mut().write_all((head + &answer).as_bytes()).unwrap();
            }
        });
        Self { address, asked }
    }

    fn giving(key: &str) -> Self {
        let answer =
            serde_json::json!({ "access_token": token(key), "expires_in": 3_600, "token_type": "Bearer" });
        Self::open("200 OK", answer.to_string())
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
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
            "[outbox]\npoll_interval = \"20ms\"\n[lanes.default]\nnamespace = \"localhost:{}\"\n{credential}\n\
             root_certificates = \"authority.pem\"\n[log]\nfilter = \"trace\"\n",
            emulator.port()
        );
        program.write("relay.toml", &config);
        Self { emulator, program }
    }

    fn start(&self, environment: &[(&str, &str)]) -> Child {
        let mut command = self.program.command(&["--config", "relay.toml", "relay", "--outbox-only"]);
        command.envs(environment.iter().copied()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    /// Relays events with it; returns the log.
    async fn relays(&self, environment: &[(&str, &str)]) -> String {
        let rows = Rows::of(&self.program).await;
        publish(&rows, 0..3).await;
        let child = self.start(environment);
        until(&rows, "SELECT count(*) FROM outbox WHERE status = 'sent'", 3).await;
        let said = stop(child);
        assert_eq!(said.status, 0, "{}", said.error);
        assert!(!said.error.contains("sig=") && !said.error.contains("s3cret"), "{}", said.error);
        let _kept = &self.emulator;
        said.error
    }
}

#[tokio::test]
async fn a_managed_identity_asks_the_machines_own_door() {
    let (relay, door) =
        (Relay::new("credential = \"managed-identity\"\nclient_id = \"ours\""), Door::giving(Emulator::KEY));
    relay.relays(&[("AZURE_POD_IDENTITY_AUTHORITY_HOST", &door.url())]).await;
    let asked = door.asked();
    let expected = "GET /metadata/identity/oauth2/token?api-version=2018%2D02%2D01\
        &resource=https%3A%2F%2Fservicebus%2Eazure%2Enet%2F&client_id=ours HTTP/1.1\r\n";
    assert!(asked[0].starts_with(expected) && asked[0].contains("metadata: true\r\n"), "{}", asked[0]);
    assert_eq!(asked.len(), 1, "a token is kept while it is good: {asked:?}");
}

#[tokio::test]
async fn a_managed_identity_of_an_app_shows_its_header() {
    let (relay, door) = (Relay::new("credential = \"managed-identity\""), Door::giving(Emulator::KEY));
    let at = format!("{}/msi/token", door.url());
    relay.relays(&[("IDENTITY_ENDPOINT", &at), ("IDENTITY_HEADER", "s3cret")]).await;
    let asked = &door.asked()[0];
    assert!(asked.starts_with("GET /msi/token?api-version=2019%2D08%2D01&resource="), "{asked}");
    assert!(asked.contains("x-identity-header: s3cret\r\n"), "{asked}");
}

#[tokio::test]
async fn a_secret_and_a_pods_file_are_sent_to_the_authority() {
    let way = "credential = \"client-secret\"\ntenant_id = \"our-tenant\"\nclient_id = \"ours\"\nclient_secret_env = \"SECRET\"";
    let (relay, door) = (Relay::new(way), Door::giving(Emulator::KEY));
    relay.relays(&[("AZURE_AUTHORITY_HOST", &door.url()), ("SECRET", "s3cret&more")]).await;
    let asked = door.asked()[0].clone();
    assert!(asked.starts_with("POST /our-tenant/oauth2/v2.0/token HTTP/1.1\r\n"), "{asked}");
    assert!(asked.ends_with("&client_secret=s3cret%26more") && asked.contains("client_id=ours&"), "{asked}");
    let scope =
        "grant_type=client%5Fcredentials&scope=https%3A%2F%2Fservicebus%2Eazure%2Enet%2F%2F%2Edefault";
    assert!(asked.contains(scope), "{asked}");

    let (relay, door) = (Relay::new("credential = \"workload-identity\""), Door::giving(Emulator::KEY));
    let file = relay.program.write("token", "s3cret-of-the-pod\n");
    let environment = [
        ("AZURE_AUTHORITY_HOST", &door.url()[..]),
        ("AZURE_TENANT_ID", "our-tenant"),
        ("AZURE_CLIENT_ID", "ours"),
        ("AZURE_FEDERATED_TOKEN_FILE", &file),
    ];
    relay.relays(&environment).await;
    let asked = door.asked()[0].clone();
    assert!(asked.ends_with("&client_assertion=s3cret%2Dof%2Dthe%2Dpod"), "{asked}");
}

#[tokio::test]
async fn a_refusal_is_told_in_the_words_of_entra() {
    let refusal =
        serde_json::json!({ "error": "invalid_client", "error_description": "AADSTS7000215: wrong secret" });
    let way = "credential = \"client-secret\"\ntenant_id = \"t\"\nclient_id = \"ours\"\nclient_secret_file = \"secret\"";
    let (relay, door) = (Relay::new(way), Door::open("401 Unauthorized", refusal.to_string()));
    relay.program.write("secret", "s3cret");
    let rows = Rows::of(&relay.program).await;
    publish(&rows, 0..1).await;
    let child = relay.start(&[("AZURE_AUTHORITY_HOST", &door.url())]);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while door.asked().len() < 2 {
        assert!(std::time::Instant::now() < deadline, "it asks again");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let said = stop(child);
    assert!(said.error.contains("AADSTS7000215: wrong secret"), "{}", said.error);
    assert!(!said.error.contains("s3cret"), "{}", said.error);
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
            "AZURE_AUTHORITY_HOST is to begin with https://: secrets are sent there",
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
