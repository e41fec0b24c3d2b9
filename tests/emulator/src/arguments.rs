//! The program's arguments.

use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;

pub(crate) const HELP: &str = "\
A development emulator of Azure Service Bus: AMQP and HTTP, no Docker, no SQL Server. For development and tests alone.

Usage: servicebus-emulator [--config FILE] [--amqp ADDRESS] [--http ADDRESS] [options]

  --config FILE              entities, in the official emulator's format (JSON with comments); without it there are none
                             until somebody creates them
  --amqp ADDRESS             where AMQP is spoken, such as 127.0.0.1:5672 (the default); port 0 takes a free one
  --http ADDRESS             where HTTP is spoken, such as 127.0.0.1:5300 (the default); AMQP over WebSocket, too
  --data DIRECTORY           keeps everything there, over a crash as well; without it everything lives in memory
  --tls-certificate FILE     the certificate (PEM, with those between it and its authority) for clients that begin with
  --tls-key FILE             TLS, and its key; both doors take TLS and plain connections on the same port. Without these
                             a certificate is made for localhost, 127.0.0.1 and ::1
  --write-certificate FILE   writes the authority of the certificate that was made there, for clients to trust
  --no-auth                  lets everybody in: no token, key or signature is checked
  --key KEY                  the key of RootManageSharedAccessKey (SAS_KEY_VALUE, as the official emulator's)
  --max-connections N        AMQP connections at a time (5000); further ones wait
  --link-idle SECONDS        how long an AMQP link may do nothing before it is detached (600, as at Azure)
  --until-input-ends         stops, as Ctrl-C would stop it, when its standard input ends: when whoever started it is gone
  -h, --help                 this text

When both doors are open it prints their addresses, each in a line of its own that begins with `AMQP ` and `HTTP `, and
the connection strings. Ctrl-C or SIGTERM stops it. Exit status: 0 stopped so, 1 it could not go on, 2 the arguments or
the config file are wrong.
";

/// What was asked for.
#[derive(Debug)]
pub(crate) struct Arguments {
    pub(crate) config: Option<PathBuf>,
    pub(crate) amqp: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) data: Option<PathBuf>,
    /// The certificate's file and the key's.
    pub(crate) tls: Option<(PathBuf, PathBuf)>,
    pub(crate) write_certificate: Option<PathBuf>,
    pub(crate) authenticate: bool,
    pub(crate) key: Option<String>,
    pub(crate) max_connections: Option<usize>,
    pub(crate) link_idle: Option<u64>,
    pub(crate) until_input_ends: bool,
}

impl Arguments {
    /// Reads them; none where help was asked for.
    pub(crate) fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Option<Self>, String> {
        let mut found = Self {
            config: None,
            amqp: SocketAddr::from(([127, 0, 0, 1], 5672)),
            http: SocketAddr::from(([127, 0, 0, 1], 5300)),
            data: None,
            tls: None,
            write_certificate: None,
            authenticate: true,
            key: None,
            max_connections: None,
            link_idle: None,
            until_input_ends: false,
        };
        let (mut certificate, mut private_key) = (None, None);
        let mut seen = Vec::new();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let argument = argument.to_string_lossy().into_owned();
            let (name, mut value) = match argument.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(OsString::from(value))),
                None => (argument, None),
            };
            if seen.contains(&name) {
                return Err(format!("{name} stands there twice"));
            }
            let mut next = || {
                let value = value.take().or_else(|| arguments.next()).filter(|value| !value.is_empty());
                value.ok_or_else(|| format!("{name} needs a value"))
            };
            match name.as_str() {
                "-h" | "--help" => return Ok(None),
                "--config" => found.config = Some(next()?.into()),
                "--amqp" => found.amqp = address(&name, &next()?.to_string_lossy())?,
                "--http" => found.http = address(&name, &next()?.to_string_lossy())?,
                "--data" => found.data = Some(next()?.into()),
                "--tls-certificate" => certificate = Some(next()?.into()),
                "--tls-key" => private_key = Some(next()?.into()),
                "--write-certificate" => found.write_certificate = Some(next()?.into()),
                "--no-auth" => found.authenticate = false,
                "--key" => found.key = Some(next()?.to_string_lossy().into_owned()),
                "--until-input-ends" => found.until_input_ends = true,
                "--max-connections" => found.max_connections = Some(number(&name, &next()?, 1_000_000)?),
                "--link-idle" => found.link_idle = Some(number(&name, &next()?, 86_400)?),
                _ => return Err(format!("unknown argument: {name}")),
            }
            if value.is_some() {
                return Err(format!("{name} takes no value"));
            }
            seen.push(name);
        }
        found.tls = match (certificate, private_key) {
            (Some(certificate), Some(private_key)) => Some((certificate, private_key)),
            (None, None) => None,
            _ => return Err("--tls-certificate and --tls-key go together".to_owned()),
        };
        if found.key.is_some() && !found.authenticate {
            return Err("--no-auth checks no key, and --key gives one".to_owned());
        }
        if found.tls.is_some() && found.write_certificate.is_some() {
            return Err(
                "--write-certificate is for the certificate that is made, and one is given".to_owned()
            );
        }
        Ok(Some(found))
    }
}

fn number<N: Copy + Display + FromStr + From<u8> + PartialOrd>(
    name: &str,
    text: &OsStr,
    most: N,
) -> Result<N, String> {
    let text = text.to_string_lossy();
    let number = text.parse().ok().filter(|number| *number >= N::from(1) && *number <= most);
    number.ok_or_else(|| format!("{name}: {text} is not a number from 1 to {most}"))
}

fn address(name: &str, text: &str) -> Result<SocketAddr, String> {
    let wrong = |why: String| format!("{name}: {text} is not an address such as 127.0.0.1:5672{why}");
    let mut all = text.to_socket_addrs().map_err(|error| wrong(format!(": {error}")))?;
    all.next().ok_or_else(|| wrong(String::new()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap here is a failed test")]

    use super::*;

    fn read(text: &str) -> Result<Option<Arguments>, String> {
        Arguments::read(text.split_whitespace().map(OsString::from))
    }

    #[test]
    fn everything_has_a_default() {
        let found = read("").unwrap().unwrap();
        assert_eq!((found.amqp.port(), found.http.port()), (5672, 5300));
        // Nobody else is to reach it, unless somebody asks for that.
        assert!(found.amqp.ip().is_loopback() && found.http.ip().is_loopback());
        assert!(found.authenticate && found.config.is_none() && found.data.is_none() && found.tls.is_none());
        assert!(!found.until_input_ends && read("--until-input-ends").unwrap().unwrap().until_input_ends);
    }

    #[test]
    fn both_spellings_are_read() {
        let found =
            read("--amqp=127.0.0.1:0 --http [::1]:8080 --data d --no-auth --max-connections 7 --config=c");
        let keyed = read("--key=a+b/c==").unwrap().unwrap();
        assert_eq!(keyed.key.as_deref(), Some("a+b/c=="));
        let found = found.unwrap().unwrap();
        assert_eq!((found.amqp.port(), found.http.port()), (0, 8080));
        assert!(!found.authenticate);
        assert_eq!(found.max_connections, Some(7));
        assert_eq!((found.config, found.data), (Some("c".into()), Some("d".into())));
        assert!(read("--amqp 127.0.0.1:0 -h").unwrap().is_none());
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, why) in [
            ("--amqp", "--amqp needs a value"),
            ("--amqp=", "--amqp needs a value"),
            ("--amqp 5672", "--amqp: 5672 is not an address"),
            ("--http 127.0.0.1:70000", "--http: 127.0.0.1:70000 is not an address"),
            ("--frobnicate", "unknown argument: --frobnicate"),
            ("orders", "unknown argument: orders"),
            ("--no-auth=yes", "--no-auth takes no value"),
            ("--data a --data b", "--data stands there twice"),
            ("--tls-key k", "--tls-certificate and --tls-key go together"),
            ("--tls-key k --tls-certificate c --write-certificate f", "--write-certificate is for"),
            ("--key k --no-auth", "--no-auth checks no key"),
            ("--max-connections 0", "--max-connections: 0 is not a number from 1 to 1000000"),
            ("--link-idle 1.5", "--link-idle: 1.5 is not a number from 1 to 86400"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.starts_with(why), "{text}: {error}");
        }
    }
}
