//! A server that keeps what is posted to it, as a collector would take it.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Posted {
    pub(crate) path: String,
    /// By lower-case name.
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
}

/// A server for as long as the test's process lives.
pub(crate) struct Collector {
    address: SocketAddr,
    posted: Arc<Mutex<Vec<Posted>>>,
}

impl Collector {
    /// One that answers every request with nothing but that it was good.
    pub(crate) fn plain() -> Self {
        Self::taking(Ok)
    }

    /// The same over TLS, with the certificate (PEM) that is to be trusted.
    pub(crate) fn over_tls() -> (Self, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = certificate.self_signed(&key).unwrap();
        let own_key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], own_key)
            .unwrap();
        let config = Arc::new(config);
        let accept = move |stream| Ok(StreamOwned::new(ServerConnection::new(Arc::clone(&config))?, stream));
        (Self::taking(accept), certificate.pem())
    }

    fn taking<S: Read + Write>(
        accept: impl Fn(TcpStream) -> Result<S, rustls::Error> + Clone + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, posted) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<Posted>>>::default());
        let keeping = Arc::clone(&posted);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (keeping, accept) = (Arc::clone(&keeping), accept.clone());
                std::thread::spawn(move || serve(accept(stream).unwrap(), &keeping));
            }
        });
        Self { address, posted }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What has come so far.
    pub(crate) fn posted(&self) -> Vec<Posted> {
        self.posted.lock().unwrap().clone()
    }
}

/// Takes one request after the other, until the client is gone.
fn serve(stream: impl Read + Write, keep: &Mutex<Vec<Posted>>) {
    let mut stream = BufReader::new(stream);
    while let Some(posted) = read(&mut stream) {
        keep.lock().unwrap().push(posted);
        let answered = stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        if answered.and_then(|()| stream.get_mut().flush()).is_err() {
            return;
        }
    }
}

fn read(reader: &mut impl BufRead) -> Option<Posted> {
    let mut lines = reader.by_ref().lines().map_while(Result::ok);
    let path = lines.next()?.split(' ').nth(1).unwrap().to_owned();
    let mut headers = HashMap::new();
    for line in lines.take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(": ").unwrap();
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Posted { path, headers, body })
}
