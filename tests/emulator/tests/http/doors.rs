//! TLS and WebSocket: what carries the protocols.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use servicebus_emulator::host::{Clock, Host};
use servicebus_emulator::http::{Bridge, Door, Socket, Tls};
use servicebus_emulator::sas::Authority;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::client::Emulator;

const HEALTH: &[u8] = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

async fn health(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> String {
    stream.write_all(HEALTH).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

async fn serve(tls: Tls) -> (Host, std::net::SocketAddr) {
    let host = Host::in_memory(Clock::System);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(Door::new(host.clone(), Authority::default(), "ns", None).serve(listener, Some(tls)));
    (host, address)
}

fn trusting(pem: &str) -> tokio_rustls::TlsConnector {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(config.with_root_certificates(roots).with_no_client_auth()).into()
}

#[tokio::test]
async fn one_port_speaks_http_and_https() {
    let (tls, pem) = Tls::self_signed(&[String::from("localhost"), String::from("127.0.0.1")]).unwrap();
    let (_host, address) = serve(tls).await;
    let plain = health(TcpStream::connect(address).await.unwrap()).await;
    assert!(plain.starts_with("HTTP/1.1 200"), "{plain}");
    let connector = trusting(&pem);
    for name in ["localhost", "127.0.0.1"] {
        let tcp = TcpStream::connect(address).await.unwrap();
        let secure = connector.connect(ServerName::try_from(name).unwrap(), tcp).await.unwrap();
        assert!(health(secure).await.starts_with("HTTP/1.1 200"), "{name}");
    }
    // Neither another name nor another emulator's certificate is taken for this one.
    let tcp = TcpStream::connect(address).await.unwrap();
    connector.connect(ServerName::try_from("example.com").unwrap(), tcp).await.unwrap_err();
    let (_, other) = Tls::self_signed(&[String::from("localhost")]).unwrap();
    let tcp = TcpStream::connect(address).await.unwrap();
    trusting(&other).connect(ServerName::try_from("localhost").unwrap(), tcp).await.unwrap_err();
    // And who broke off, or sends what is no handshake, is no trouble for the next.
    TcpStream::connect(address).await.unwrap().write_all(b"\x16\x03\x01\xff\xffgarbage").await.unwrap();
    assert!(health(TcpStream::connect(address).await.unwrap()).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_given_certificate_is_read_or_its_mistake_told() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec![String::from("localhost")]).unwrap();
    let certificate = certificate.self_signed(&key).unwrap().pem();
    let (good, good_key) = (write("certificate", &certificate), write("key", &key.serialize_pem()));
    let (_host, address) = serve(Tls::from_files(&good, &good_key).unwrap()).await;
    let tcp = TcpStream::connect(address).await.unwrap();
    let secure =
        trusting(&certificate).connect(ServerName::try_from("localhost").unwrap(), tcp).await.unwrap();
    assert!(health(secure).await.starts_with("HTTP/1.1 200"));

    let other_key = write("other key", &rcgen::KeyPair::generate().unwrap().serialize_pem());
    let empty = write("empty", "");
    let missing = folder.path().join("missing");
    for (certificate, key, why) in [
        (&missing, &good_key, "missing: "),
        (&empty, &good_key, "empty: there is no certificate in it"),
        (&good, &empty, "empty: "),
        (&good, &other_key, "can't be used"),
    ] {
        let error = Tls::from_files(certificate, key).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}

#[tokio::test]
async fn the_door_closes_with_the_host() {
    let emulator = Emulator::start().await;
    let idle = TcpStream::connect(&emulator.address).await.unwrap();
    emulator.get("$Resources/queues").await.expect(200);
    emulator.host.shutdown().await.unwrap();
    let mut idle = idle;
    assert_eq!(idle.read(&mut [0]).await.unwrap(), 0);
    let refused = async {
        while TcpStream::connect(&emulator.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), refused).await.unwrap();
}

/// Sends back what it gets, in pieces of its own making.
async fn echo(mut socket: Socket) {
    let mut buffer = vec![0; 1000];
    while let Ok(length @ 1..) = socket.read(&mut buffer).await {
        if socket.write_all(&buffer[..length]).await.is_err() || socket.flush().await.is_err() {
            return;
        }
    }
    let _ended = socket.shutdown().await;
}

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

fn upgrade(protocol: &str) -> String {
    format!(
        "GET /$servicebus/websocket HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Protocol: {protocol}\r\n\r\n"
    )
}

async fn connect(emulator: &Emulator, protocol: &str) -> (String, TcpStream) {
    let mut tcp = TcpStream::connect(&emulator.address).await.unwrap();
    tcp.write_all(upgrade(protocol).as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(tcp.read_u8().await.unwrap());
    }
    (String::from_utf8(head).unwrap(), tcp)
}

#[tokio::test]
async fn bytes_travel_in_binary_messages() {
    let emulator = Emulator::start_with(Some(Bridge::new(echo))).await;
    for protocol in ["AMQPWSB10", "amqp", "chat, amqp"] {
        let (head, tcp) = connect(&emulator, protocol).await;
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        let head = head.to_ascii_lowercase();
        assert!(head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{head}");
        let chosen = protocol.rsplit(' ').next().unwrap().to_ascii_lowercase();
        assert!(head.contains(&format!("sec-websocket-protocol: {chosen}\r\n")), "{head}");
        let socket = WebSocketStream::from_raw_socket(tcp, Role::Client, None).await;
        let sent: Vec<u8> = (0..100_000u32).flat_map(u32::to_be_bytes).collect();
        let (mut sink, mut stream) = socket.split();
        let sending = async {
            for piece in sent.chunks(70_000) {
                sink.send(Message::Binary(piece.to_vec().into())).await.unwrap();
            }
        };
        let receiving = async {
            let mut received = Vec::new();
            while received.len() < sent.len() {
                match stream.next().await.unwrap().unwrap() {
                    Message::Binary(piece) => received.extend_from_slice(&piece),
                    other => panic!("{other:?}"),
                }
            }
            received
        };
        let ((), received) = tokio::join!(sending, receiving);
        assert!(received == sent);
        let mut socket = stream.reunite(sink).unwrap();
        socket.send(Message::Ping(b"?".to_vec().into())).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::Pong(b"?".to_vec().into()));
        socket.close(None).await.unwrap();
        assert!(matches!(socket.next().await, Some(Ok(Message::Close(_))) | None));
    }
}

#[tokio::test]
async fn what_is_no_websocket_is_refused() {
    let emulator = Emulator::start_with(Some(Bridge::new(echo))).await;
    let good = upgrade("amqp");
    for (from, to, why) in [
        ("Upgrade: websocket", "Upgrade: h2c", "Upgrade"),
        ("Connection: keep-alive, Upgrade", "Connection: close", ""),
        ("Version: 13", "Version: 8", "version 13"),
        ("Sec-WebSocket-Key", "X-Key", "Sec-WebSocket-Key"),
        ("Protocol: amqp", "Protocol: mqtt", "AMQPWSB10"),
        ("GET /", "POST /", "GET"),
    ] {
        let request = good.replace(from, to);
        assert_ne!(request, good);
        let request = request.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
        let answer = emulator.exchange(request.as_bytes()).await.with(why);
        assert!(matches!(answer.status, 400 | 405), "{answer:?}");
    }
    // AMQP is binary: a text ends the connection, and an endless message as well.
    for message in [Message::Text("AMQP".into()), Message::Binary(vec![0; 5 * 1024 * 1024].into())] {
        let (_, tcp) = connect(&emulator, "amqp").await;
        let mut socket = WebSocketStream::from_raw_socket(tcp, Role::Client, None).await;
        let _refused_while_sending = socket.send(message).await;
        while let Some(Ok(message)) = socket.next().await {
            assert!(message.is_close(), "{message:?}");
        }
    }
    let without = Emulator::start().await;
    without.exchange(good.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n").as_bytes()).await.expect(400);
}
