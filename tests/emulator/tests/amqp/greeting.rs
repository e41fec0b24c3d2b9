//! How connections begin.

use serde_amqp::Value;
use servicebus_emulator::amqp::{Door, Limits};
use servicebus_emulator::host::{Clock, Host};
use servicebus_emulator::http::Tls;
use servicebus_emulator::sas::{Authority, KEY, KEY_NAME};
use tokio::net::{TcpListener, TcpStream};

use super::client::{CLOSE, Client, OPEN};
use super::emulator::{Emulator, provider};

const SASL: &[u8] = b"AMQP\x03\x01\x00\x00";
const TLS: &[u8] = b"AMQP\x02\x01\x00\x00";

#[tokio::test]
async fn what_is_no_header_is_answered_with_the_right_one() {
    let emulator = Emulator::start().await;
    for wrong in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"AMQP\x00\x00\x09\x01",
        b"AMQP\x01\x01\x00\x00",
        TLS,
        &[0xff; 4000],
        b"\0",
    ] {
        let mut client = emulator.connect().await;
        client.write(wrong).await;
        assert_eq!(client.rest().await, SASL, "{wrong:x?}");
    }
    emulator.is_well().await;
}

#[tokio::test]
async fn a_header_may_come_in_pieces_and_without_sasl() {
    let emulator = Emulator::start().await;
    let mut client = emulator.connect().await;
    for byte in b"AMQP\x00\x01\x00\x00" {
        client.write(&[*byte]).await;
    }
    assert_eq!(client.read(8).await, b"AMQP\x00\x01\x00\x00");
    let open = client.open().await;
    assert_eq!(open.code, OPEN);
    assert_eq!(open.field(2), &Value::Uint(65_536), "what a real namespace says");
    assert_eq!(open.field(3), &Value::Ushort(4999));
    assert_eq!(open.field(4), &Value::Uint(120_000));
}

#[tokio::test]
async fn four_mechanisms_are_offered_and_taken() {
    let emulator = Emulator::with(Limits::default(), Authority::default()).await;
    let right = format!("\0{KEY_NAME}\0{KEY}");
    for (mechanism, response, code) in [
        ("ANONYMOUS", None, 0),
        ("ANONYMOUS", Some(&b"\0RootManageSharedAccessKey"[..]), 0),
        ("MSSBCBS", None, 0),
        ("EXTERNAL", Some(b""), 0),
        ("PLAIN", Some(right.as_bytes()), 0),
        ("PLAIN", Some(b"\0RootManageSharedAccessKey\0another"), 1),
        ("PLAIN", Some(b"\0another\0SAS_KEY_VALUE"), 1),
        ("PLAIN", Some(b"nothing"), 1),
        ("PLAIN", Some(b"\0\xff\0\xff"), 1),
        ("PLAIN", None, 1),
        ("GSSAPI", None, 1),
    ] {
        let mut client = emulator.connect().await;
        client.write(SASL).await;
        assert_eq!(client.read(8).await, SASL);
        let (0x40, mechanisms) = client.sasl().await else { panic!() };
        let offered = format!("{:?}", mechanisms[0]);
        for name in ["MSSBCBS", "PLAIN", "ANONYMOUS", "EXTERNAL"] {
            assert!(offered.contains(name), "{offered}");
        }
        client.init(mechanism, response).await;
        assert_eq!(client.sasl().await, (0x44, vec![Value::Ubyte(code)]), "{mechanism} {response:?}");
        if code == 0 {
            client.write(b"AMQP\x00\x01\x00\x00").await;
            assert_eq!(client.read(8).await, b"AMQP\x00\x01\x00\x00");
        } else {
            client.ends().await;
        }
    }
}

#[tokio::test]
async fn what_is_no_sasl_ends_the_connection() {
    let emulator = Emulator::start().await;
    for wrong in [
        &b"\xff\xff\xff\xff\x02\x01\x00\x00"[..],
        b"\x00\x00\x00\x08\x02\x01\x00\x00",
        b"\x00\x00\x00\x0c\x02\x00\x00\x00\x00\x53\x10\x45",
        b"\x00\x00\x00\x0c\x02\x01\x00\x00\x00\x53\x41\x45",
        b"\x00\x00\x00\x0c\x02\x01\x00\x00\x00\x53\x43\x45",
    ] {
        let mut client = emulator.connect().await;
        client.write(SASL).await;
        client.read(8).await;
        client.sasl().await;
        client.write(wrong).await;
        assert_eq!(client.sasl().await, (0x44, vec![Value::Ubyte(1)]), "{wrong:x?}");
        client.ends().await;
    }
    emulator.is_well().await;
}

#[tokio::test]
async fn tls_begins_at_once_or_when_it_is_asked_for() {
    let host = Host::in_memory(Clock::System);
    let (tls, pem) = Tls::self_signed(&[String::from("localhost")]).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let door = Door::new(host.clone(), Authority::unchecked(), Limits::default());
    tokio::spawn(door.serve(listener, Some(tls)));
    for asked in [false, true] {
        let mut stream = Box::new(TcpStream::connect(address).await.unwrap()) as Box<dyn super::client::Wire>;
        if asked {
            let mut client = Client::new(stream);
            client.write(TLS).await;
            assert_eq!(client.read(8).await, TLS);
            stream = client.into_stream();
        }
        let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
        let mut client = Client::new(trusting(&pem).connect(name, stream).await.unwrap());
        client.greet().await;
        client.open().await;
        client.send(0, CLOSE, vec![]).await;
        client.expect(CLOSE).await;
    }
    // And on the same port without.
    let mut client = Client::new(TcpStream::connect(address).await.unwrap());
    client.greet().await;
    client.open().await;
}

fn trusting(pem: &str) -> tokio_rustls::TlsConnector {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;

    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let config = rustls::ClientConfig::builder_with_provider(provider());
    let config = config.with_safe_default_protocol_versions().unwrap();
    std::sync::Arc::new(config.with_root_certificates(roots).with_no_client_auth()).into()
}
