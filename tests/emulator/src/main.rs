//! The emulator as a program: `servicebus-emulator --help`.

mod arguments;

use std::fmt::Display;
use std::process::ExitCode;
use std::time::Duration;

use servicebus_emulator::amqp::{self, Limits};
use servicebus_emulator::config::Config;
use servicebus_emulator::host::{Clock, Host};
use servicebus_emulator::http::{self, Tls};
use servicebus_emulator::sas::{Authority, KEY, KEY_NAME};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use self::arguments::{Arguments, HELP};

/// Why there is nothing to run, and the exit status that says so.
struct Failed(u8, String);

fn wrong(text: impl Display) -> Failed {
    Failed(2, text.to_string())
}

fn failed(text: impl Display) -> Failed {
    Failed(1, text.to_string())
}

fn main() -> ExitCode {
    let arguments = match Arguments::read(std::env::args_os().skip(1)) {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(text) => {
            eprintln!("servicebus-emulator: {text}; see servicebus-emulator --help");
            return ExitCode::from(2);
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let ran = runtime.map_err(failed).and_then(|runtime| runtime.block_on(run(arguments)));
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failed(status, text)) => {
            eprintln!("servicebus-emulator: {text}");
            ExitCode::from(status)
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Failed> {
    let config =
        arguments.config.as_deref().map(Config::load).transpose().map_err(wrong)?.unwrap_or_default();
    let tls = tls(&arguments)?;
    let mut signals = Signals::new(arguments.until_input_ends).map_err(failed)?;
    let amqp = bind(arguments.amqp).await?;
    let http = bind(arguments.http).await?;
    let host = open(&arguments, &config).await?;

    let key = arguments.key.as_deref().unwrap_or(KEY);
    let authority = match arguments.authenticate {
        true => Authority::new(vec![(KEY_NAME.to_owned(), key.to_owned())]),
        false => Authority::unchecked(),
    };
    let usual = Limits::default();
    let limits = Limits {
        connections: arguments.max_connections.unwrap_or(usual.connections),
        link_idle: arguments.link_idle.map_or(usual.link_idle, Duration::from_secs),
        ..usual
    };
    let amqp_door = amqp::Door::new(host.clone(), authority.clone(), limits);
    let http_door = http::Door::new(host.clone(), authority, &config.namespace, Some(amqp_door.bridge()));
    greet(&amqp, &http, key).map_err(failed)?;
    let amqp_served = tokio::spawn(amqp_door.serve(amqp, Some(tls.clone())));
    let http_served = tokio::spawn(http_door.serve(http, Some(tls)));

    signals.recv().await;
    let stop = async {
        host.shutdown().await.map_err(failed)?;
        for served in [amqp_served, http_served] {
            served.await.map_err(failed)?;
        }
        // What the doors did while they closed is kept, too.
        host.shutdown().await.map_err(failed)
    };
    tokio::select! {
        stopped = stop => stopped,
        () = signals.recv() => Err(failed("stopped at once, before everybody was told")),
    }
}

/// What asks for an end: two signals and, where that was asked for, the end of the standard input.
struct Signals(Signal, Signal, Option<oneshot::Receiver<()>>);

impl Signals {
    fn new(until_input_ends: bool) -> std::io::Result<Self> {
        let input = until_input_ends.then(end_of_input);
        Ok(Self(signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?, input))
    }

    async fn recv(&mut self) {
        let ended = async {
            match self.2.as_mut() {
                Some(end) => end.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.0.recv() => return,
            _ = self.1.recv() => return,
            _ = ended => {}
        }
        // It ends once, and what is asked for a second time is an end at once.
        self.2 = None;
    }
}

/// On a thread of its own, which nobody waits for: tokio's standard input would keep the program until a line comes.
fn end_of_input() -> oneshot::Receiver<()> {
    let (ended, end) = oneshot::channel();
    std::thread::spawn(move || {
        let _broken = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        let _gone = ended.send(());
    });
    end
}

fn tls(arguments: &Arguments) -> Result<Tls, Failed> {
    if let Some((certificate, key)) = &arguments.tls {
        return Tls::from_files(certificate, key).map_err(wrong);
    }
    let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let (tls, authority) = Tls::self_signed(&names).map_err(failed)?;
    if let Some(file) = &arguments.write_certificate {
        std::fs::write(file, authority).map_err(|error| wrong(format!("{}: {error}", file.display())))?;
    }
    Ok(tls)
}

async fn bind(address: std::net::SocketAddr) -> Result<TcpListener, Failed> {
    TcpListener::bind(address).await.map_err(|error| failed(format!("{address}: {error}")))
}

async fn open(arguments: &Arguments, config: &Config) -> Result<Host, Failed> {
    let host = match &arguments.data {
        None => Host::in_memory(Clock::System),
        Some(directory) => {
            let opened = Host::open(directory, Clock::System);
            let (host, recovery) =
                opened.map_err(|error| failed(format!("{}: {error}", directory.display())))?;
            println!(
                "{}: {} inputs were replayed, {} torn bytes were dropped",
                directory.display(),
                recovery.inputs,
                recovery.torn_bytes
            );
            host
        }
    };
    config.apply(&host).await.map_err(|faults| {
        let file = arguments.config.as_deref().map(|file| file.display().to_string()).unwrap_or_default();
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        wrong(format!("{file}: {}", faults.join("\n")))
    })?;
    Ok(host)
}

/// Says where the doors are. Whoever starts this as a program reads the first two lines.
fn greet(amqp: &TcpListener, http: &TcpListener, key: &str) -> std::io::Result<()> {
    let (amqp, http) = (amqp.local_addr()?, http.local_addr()?);
    let string = |port: u16| {
        format!(
            "Endpoint=sb://localhost:{port};SharedAccessKeyName={KEY_NAME};SharedAccessKey={key};\
             UseDevelopmentEmulator=true;"
        )
    };
    println!("AMQP {amqp}");
    println!("HTTP {http}");
    println!("Connection string: {}", string(amqp.port()));
    println!("Connection string for administration: {}", string(http.port()));
    Ok(())
}
