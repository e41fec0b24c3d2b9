//! The smallest client that can be trusted not to hide anything: one connection for each request.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use servicebus_emulator::host::{Clock, Host, ManualClock};
use servicebus_emulator::http::{Bridge, Door};
use servicebus_emulator::model::Time;
use servicebus_emulator::sas::{Authority, KEY, KEY_NAME};
use sha2::Sha256;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Monday, 23 November 2026, 18:41:06.125.
pub(crate) const NOW: Time = Time(1_795_459_266_125);

/// An emulator of its own for each test, with a clock that stands still.
pub(crate) struct Emulator {
    pub(crate) host: Host,
    pub(crate) clock: ManualClock,
    pub(crate) address: String,
}

impl Emulator {
    pub(crate) async fn start() -> Self {
        Self::start_with(None).await
    }

    pub(crate) async fn start_with(bridge: Option<Bridge>) -> Self {
        let clock = ManualClock::at(NOW);
        let host = Host::in_memory(Clock::Manual(clock.clone()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let door = Door::new(host.clone(), Authority::default(), "sbemulatorns", bridge);
        tokio::spawn(door.serve(listener, None));
        Self { host, clock, address }
    }

    /// With a token for everything.
    pub(crate) async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let token = sign("https://localhost", 3600);
        let mut all = vec![("Authorization", token.as_str())];
        all.extend_from_slice(headers);
        self.ask_plainly(method, path, &all, body).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], b"").await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.ask("DELETE", path, &[], b"").await
    }

    /// Without a token.
    pub(crate) async fn ask_plainly(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let mut request =
            format!("{method} /{path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.address);
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
        let mut bytes = request.into_bytes();
        bytes.extend_from_slice(body);
        self.exchange(&bytes).await
    }

    /// Whatever bytes, and whatever comes until the connection ends.
    pub(crate) async fn exchange(&self, bytes: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        let (mut reader, mut writer) = stream.split();
        let mut answer = Vec::new();
        // A door that has heard enough closes while there is still something to write.
        let (_written, read) = tokio::join!(writer.write_all(bytes), reader.read_to_end(&mut answer));
        read.unwrap();
        Answer::read(&answer)
    }
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    fn read(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines.map(|line| line.split_once(": ").unwrap());
        let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
        Self { status, headers, body: body.to_owned() }
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map_or_else(|| panic!("no {name} in {:?}", self.headers), |(_, value)| value)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name))
    }

    /// Fails with the whole answer where the status is another.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    /// Fails where the body has no such text.
    #[track_caller]
    pub(crate) fn with(self, text: &str) -> Self {
        assert!(self.body.contains(text), "no {text:?} in {}", self.body);
        self
    }

    /// Fails where the body has such a text.
    #[track_caller]
    pub(crate) fn without(self, text: &str) -> Self {
        assert!(!self.body.contains(text), "{text:?} in {}", self.body);
        self
    }
}

/// A token for that resource, valid for so many seconds from [`NOW`] on.
pub(crate) fn sign(resource: &str, seconds: i64) -> String {
    let resource = utf8_percent_encode(resource, NON_ALPHANUMERIC).to_string();
    let expiry = i64::try_from(NOW.0 / 1000).unwrap() + seconds;
    let mut mac = Hmac::<Sha256>::new_from_slice(KEY.as_bytes()).unwrap();
    mac.update(format!("{resource}\n{expiry}").as_bytes());
    let signature = STANDARD.encode(mac.finalize().into_bytes());
    let signature = utf8_percent_encode(&signature, NON_ALPHANUMERIC);
    format!("SharedAccessSignature sr={resource}&sig={signature}&se={expiry}&skn={KEY_NAME}")
}

/// A description as .NET and JavaScript write it, around these elements.
pub(crate) fn entry(kind: &str, elements: &str) -> Vec<u8> {
    format!(
        r#"<entry xmlns="http://www.w3.org/2005/Atom"><content type="application/xml"><{kind}
        xmlns="http://schemas.microsoft.com/netservices/2010/10/servicebus/connect"
        xmlns:i="http://www.w3.org/2001/XMLSchema-instance">{elements}</{kind}></content></entry>"#
    )
    .into_bytes()
}
