//! Who may look, and who may change: tokens, sessions that a log-in begins, and what keeps other sites' forms out.
//!
//! A session is a cookie that the token's own HMAC signs: every instance of a service takes it, none keeps a list, and a new
//! token ends it. The token itself is never in it.

use std::fmt;
use std::time::{Duration, SystemTime};

use axum::http::header::{AUTHORIZATION, COOKIE, HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderName};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use tokio::sync::Semaphore;
use uuid::Uuid;

/// How long a log-in lasts.
const SESSION: Duration = Duration::from_secs(12 * 3600);
/// How long a wrong token waits for its answer, and how many may wait at a time: together the most guesses a second.
const WRONG_TOKEN_WAIT: Duration = Duration::from_secs(1);
const WRONG_TOKENS: usize = 8;

const SESSION_COOKIE: &str = "distributed_events_session";
/// Where the host lets people in, their forms are known by this one.
const FORM_COOKIE: &str = "distributed_events_form";
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// What somebody may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Access {
    Nothing,
    Read,
    Write,
}

/// Somebody who has come, as far as a request tells.
#[derive(Clone, Debug)]
pub(super) struct Visitor {
    pub(super) access: Access,
    /// By a log-in, which can be ended.
    pub(super) logged_in: bool,
    /// What a form of theirs has to carry.
    pub(super) form: String,
    /// By a header that no other site's form can make a browser send.
    by_header: bool,
    /// A cookie to be set along with the answer.
    pub(super) cookie: Option<String>,
}

/// How a token was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presented {
    Right(Access),
    Wrong,
    /// So many wrong ones wait already that this one isn't looked at any longer.
    TooMany,
}

/// What is known of a token; it is not kept itself.
struct Token {
    digest: [u8; 32],
    sessions: Hmac<Sha256>,
}

impl Token {
    fn new(token: &str) -> Self {
        let digest = digest(token).finalize().into_bytes().into();
        let key = keyed(token.as_bytes()).chain_update("sessions of the dashboard").finalize().into_bytes();
        Self { digest, sessions: keyed(&key) }
    }

    /// In a time that tells nothing of how far they agree.
    fn is(&self, presented: &str) -> bool {
        digest(presented).verify_slice(&self.digest).is_ok()
    }
}

fn digest(token: &str) -> Hmac<Sha256> {
    keyed(b"token of the dashboard").chain_update(token)
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
    Hmac::new_from_slice(key).expect("a key of any length")
}

/// The doors of a dashboard.
pub(super) struct Doors {
    reading: Option<Token>,
    writing: Option<Token>,
    host_reads: bool,
    host_writes: bool,
    secure: bool,
    origin: Option<String>,
    wrong: Semaphore,
}

impl Default for Doors {
    fn default() -> Self {
        Self {
            reading: None,
            writing: None,
            host_reads: false,
            host_writes: false,
            secure: true,
            origin: None,
            wrong: Semaphore::new(WRONG_TOKENS),
        }
    }
}

impl fmt::Debug for Doors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Doors")
            .field("read_token", &self.reading.is_some())
            .field("write_token", &self.writing.is_some())
            .field("host_reads", &self.host_reads)
            .field("host_writes", &self.host_writes)
            .finish_non_exhaustive()
    }
}

impl Doors {
    pub(super) fn read_token(&mut self, token: &str) {
        self.reading = (!token.is_empty()).then(|| Token::new(token));
    }

    pub(super) fn write_token(&mut self, token: &str) {
        self.writing = (!token.is_empty()).then(|| Token::new(token));
    }

    pub(super) const fn host_reads(&mut self) {
        self.host_reads = true;
    }

    pub(super) const fn host_writes(&mut self) {
        (self.host_reads, self.host_writes) = (true, true);
    }

    pub(super) const fn over_plain_http(&mut self) {
        self.secure = false;
    }

    pub(super) fn origin(&mut self, origin: &str) {
        self.origin = Some(origin.trim_end_matches('/').to_owned());
    }

    /// Whether there is a token to log in with.
    pub(super) const fn has_tokens(&self) -> bool {
        self.reading.is_some() || self.writing.is_some()
    }

    /// Whether anybody can change anything.
    pub(super) const fn can_write(&self) -> bool {
        self.host_writes || self.writing.is_some()
    }

    fn token_for(&self, access: Access) -> Option<&Token> {
        match access {
            Access::Nothing => None,
            Access::Read => self.reading.as_ref(),
            Access::Write => self.writing.as_ref(),
        }
    }

    /// What a token opens. A right one is answered at once, however many wrong ones wait.
    pub(super) async fn present(&self, presented: &str) -> Presented {
        for access in [Access::Write, Access::Read] {
            if self.token_for(access).is_some_and(|token| token.is(presented)) {
                return Presented::Right(access);
            }
        }
        match self.wrong.try_acquire() {
            Ok(_waits) => {
                tokio::time::sleep(WRONG_TOKEN_WAIT).await;
                Presented::Wrong
            }
            Err(_full) => Presented::TooMany,
        }
    }

    /// Who comes with these headers. `base` is where the dashboard is mounted, for cookies.
    pub(super) async fn visitor(&self, headers: &HeaderMap, base: &str) -> Result<Visitor, Presented> {
        let host = match (self.host_writes, self.host_reads) {
            (true, _) => Access::Write,
            (false, true) => Access::Read,
            (false, false) => Access::Nothing,
        };
        let mut visitor =
            Visitor { access: host, logged_in: false, form: String::new(), by_header: false, cookie: None };
        // A header of another kind is for the host.
        if let Some(token) = bearer(headers).filter(|_| self.has_tokens()) {
            match self.present(token).await {
                Presented::Right(access) => {
                    visitor.access = visitor.access.max(access);
                    visitor.by_header = true;
                }
                refused if host == Access::Nothing => return Err(refused),
                _ => {}
            }
            return Ok(visitor);
        }
        if let Some((session, access)) =
            cookie(headers, SESSION_COOKIE).and_then(|cookie| Some((cookie, self.session(cookie)?)))
        {
            visitor.access = visitor.access.max(access);
            visitor.logged_in = true;
            visitor.form = self.form_of(session, access);
        } else if host != Access::Nothing {
            if let Some(known) = cookie(headers, FORM_COOKIE).filter(|form| form.parse::<Uuid>().is_ok()) {
                known.clone_into(&mut visitor.form);
            } else {
                visitor.form = Uuid::new_v4().to_string();
                visitor.cookie = Some(self.set(FORM_COOKIE, &visitor.form, base, SESSION));
            }
        }
        Ok(visitor)
    }

    /// The cookie of a session that begins now.
    pub(super) fn begin(&self, access: Access, base: &str) -> Option<String> {
        let token = self.token_for(access)?;
        let expires = now() + SESSION.as_secs();
        let content = format!("{}.{expires}.{}", level(access), Uuid::new_v4().simple());
        let mac = token.sessions.clone().chain_update("session").chain_update(&content).finalize();
        let session = format!("{content}.{}", hex(&mac.into_bytes()));
        Some(self.set(SESSION_COOKIE, &session, base, SESSION))
    }

    /// The cookie that ends a session.
    pub(super) fn end(&self, base: &str) -> String {
        self.set(SESSION_COOKIE, "", base, Duration::ZERO)
    }

    fn session(&self, cookie: &str) -> Option<Access> {
        let (content, mac) = cookie.rsplit_once('.')?;
        let mut parts = content.split('.');
        let access = match parts.next()? {
            "w" => Access::Write,
            "r" => Access::Read,
            _ => return None,
        };
        let token = self.token_for(access)?;
        token
            .sessions
            .clone()
            .chain_update("session")
            .chain_update(content)
            .verify_slice(&unhex(mac)?)
            .ok()?;
        let expires: u64 = parts.next()?.parse().ok()?;
        (now() < expires).then_some(access)
    }

    fn form_of(&self, session: &str, access: Access) -> String {
        let token = self.token_for(access);
        let mac =
            token.map(|token| token.sessions.clone().chain_update("form").chain_update(session).finalize());
        mac.map(|mac| hex(&mac.into_bytes())).unwrap_or_default()
    }

    /// Whether a form was sent from one of this dashboard's own pages.
    pub(super) fn is_own_form(&self, headers: &HeaderMap, visitor: &Visitor, form: &str) -> bool {
        if visitor.by_header {
            return true;
        }
        self.is_own_origin(headers)
            && !visitor.form.is_empty()
            && digest(form).verify_slice(&digest(&visitor.form).finalize().into_bytes()).is_ok()
    }

    /// What the browser says of the page that a form stands on; those that say nothing are old.
    pub(super) fn is_own_origin(&self, headers: &HeaderMap) -> bool {
        let text = |name: &HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
        if text(&FETCH_SITE).is_some_and(|site| !matches!(site, "same-origin" | "none")) {
            return false;
        }
        let Some(origin) = text(&ORIGIN) else { return true };
        match &self.origin {
            Some(own) => own == origin,
            None => {
                let host = origin.split_once("://").map(|(_, host)| host);
                host.is_some() && host == text(&HOST)
            }
        }
    }

    fn set(&self, name: &str, value: &str, base: &str, lasts: Duration) -> String {
        let path = if base.is_empty() { "/" } else { base };
        let secure = if self.secure { "; Secure" } else { "" };
        format!("{name}={value}; Path={path}; Max-Age={}; HttpOnly; SameSite=Strict{secure}", lasts.as_secs())
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let all = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = all.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(known, _)| *known == name).map(|(_, value)| value)
}

const fn level(access: Access) -> &'static str {
    match access {
        Access::Write => "w",
        Access::Nothing | Access::Read => "r",
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|digit| digit.to_digit(16).and_then(|digit| digit.try_into().ok())).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    Some(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}
