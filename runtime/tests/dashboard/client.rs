//! A dashboard that is served, and requests to it.

use distributed_events::EventBus;
use distributed_events::dashboard::Dashboard;
use sqlx::Sqlite;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::rows::Rows;

pub(crate) const READ: &str = "a-token-for-reading";
pub(crate) const WRITE: &str = "a-token-for-changes";

/// A dashboard of a new database, served until the test's runtime ends.
pub(crate) struct Served {
    pub(crate) rows: Rows,
    pub(crate) host: String,
    _folder: TempDir,
}

/// An answer, as far as tests look at it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    /// The first header of this name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let of_name = |line: &&str| line.to_ascii_lowercase().starts_with(&format!("{name}: "));
        self.head.lines().find(of_name).map(|line| line[name.len() + 2..].trim())
    }

    /// The cookie that it sets, as a browser sends it back.
    pub(crate) fn cookie(&self) -> String {
        self.header("set-cookie").unwrap().split(';').next().unwrap().to_owned()
    }

    /// What its first form carries.
    pub(crate) fn form(&self) -> String {
        let (_, rest) = self.body.split_once("name=\"form\" value=\"").unwrap();
        rest.split('"').next().unwrap().to_owned()
    }
}

impl Served {
    /// With tokens for reading and changing.
    pub(crate) async fn new() -> Self {
        Self::with(|dashboard| dashboard.read_token(READ).write_token(WRITE)).await
    }

    pub(crate) async fn with(set: impl FnOnce(Dashboard<Sqlite>) -> Dashboard<Sqlite>) -> Self {
        Self::routed(set, |router| router).await
    }

    pub(crate) async fn routed(
        set: impl FnOnce(Dashboard<Sqlite>) -> Dashboard<Sqlite>,
        route: impl FnOnce(axum::Router) -> axum::Router,
    ) -> Self {
        let folder = TempDir::new().unwrap();
        let rows = Rows::at(&format!("sqlite:{}?mode=rwc", folder.path().join("shop.db").display())).await;
        EventBus::migrate(&rows.pool).await.unwrap();
        let router = route(set(Dashboard::new(rows.pool.clone())).router());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { rows, host, _folder: folder }
    }

    /// A request; headers are lines, a body is a form.
    pub(crate) async fn ask(&self, what: &str, headers: &[&str], body: &str) -> Answer {
        let mut connection = TcpStream::connect(&self.host).await.unwrap();
        let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
        let request = format!(
            "{what} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-type: application/x-www-form-urlencoded\r\n\
             content-length: {}\r\n{headers}\r\n{body}",
            self.host,
            body.len()
        );
        connection.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head: head.to_owned(), body: body.to_owned() }
    }

    /// With a token in a header.
    pub(crate) async fn get(&self, path: &str, token: &str) -> Answer {
        self.ask(&format!("GET {path}"), &[&format!("authorization: Bearer {token}")], "").await
    }

    /// The cookie of a new log-in.
    pub(crate) async fn log_in(&self, token: &str) -> String {
        let answer = self.ask("POST /login", &[], &format!("token={token}")).await;
        assert_eq!(answer.status, 303, "{answer:?}");
        format!("cookie: {}", answer.cookie())
    }
}
