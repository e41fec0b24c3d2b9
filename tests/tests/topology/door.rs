//! HTTP by hand: what the management API says, and doors that say what a test wants.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tests::emulator::Emulator;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Asks an emulator that lets everybody in, or with a token made by hand.
pub async fn ask(address: SocketAddr, method: &str, path: &str, token: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {token}\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Signed by Python's hmac for `sb://localhost/` with the emulator's key, until the year 2100.
pub const TOKEN: &str = "SharedAccessSignature sr=sb%3A%2F%2Flocalhost%2F&sig=5GGjQ4mdeOTQW7GUEelp45QxxGybBWKv2rD49Ch3S5E%3D&se=4102444800&skn=RootManageSharedAccessKey";

/// The names of a subscription's rules.
pub async fn rules_of(emulator: &Emulator, topic: &str, subscription: &str) -> Vec<String> {
    let path = format!("/{topic}/subscriptions/{subscription}/rules?$top=100");
    let answer = ask(emulator.http(), "GET", &path, TOKEN, "").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let names =
        answer.split("<Name>").skip(1).filter_map(|rest| Some(rest.split_once("</Name>")?.0.to_owned()));
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

/// Creates something in an emulator; the description is without its entry.
pub async fn put(emulator: &Emulator, path: &str, description: &str) {
    let description = description.replacen(
        '>',
        " xmlns=\"http://schemas.microsoft.com/netservices/2010/10/servicebus/connect\" \
         xmlns:i=\"http://www.w3.org/2001/XMLSchema-instance\">",
        1,
    );
    let entry = format!(
        "<entry xmlns=\"http://www.w3.org/2005/Atom\"><content type=\"application/xml\">{description}</content></entry>"
    );
    let answer = ask(emulator.http(), "PUT", path, TOKEN, &entry).await;
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
}

/// Deletes something in an emulator.
pub async fn delete(emulator: &Emulator, path: &str) {
    let answer = ask(emulator.http(), "DELETE", path, TOKEN, "").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// A door that gives these answers, one for each request, and then the last one for ever.
pub struct Door {
    pub url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Door {
    pub async fn saying(answers: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let answers: Vec<_> = answers.iter().map(|&answer| answer.to_owned()).collect();
        let noted = Arc::clone(&asked);
        tokio::spawn(async move {
            let mut number = 0;
            while let Ok((mut stream, _)) = listener.accept().await {
                let request = request(&mut stream).await;
                noted.lock().unwrap().push(request);
                let answer = &answers[number.min(answers.len() - 1)];
                number += 1;
                let _may_have_gone = stream.write_all(answer.as_bytes()).await;
            }
        });
        Self { url, asked }
    }

    /// What was asked so far, headers and all.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// An answer with a status and a body, after which the connection ends.
pub fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}Connection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

async fn request(stream: &mut TcpStream) -> String {
    let mut read = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer).await.unwrap_or_default();
        read.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&read).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            assert!(count > 0, "the request ended early: {text}");
            continue;
        };
        let length =
            head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
        if body.len() >= length.unwrap_or(0) || count == 0 {
            return text;
        }
    }
}
