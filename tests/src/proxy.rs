//! A TCP proxy on which a test can cut, freeze and slow what passes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// What becomes of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Passing {
    /// They pass, so much later.
    After(Duration),
    /// They don't, and nobody is told: the cable is out.
    Never,
}

#[derive(Debug)]
struct Controls {
    passing: watch::Sender<Passing>,
    /// Connections of an earlier number are cut.
    generation: watch::Sender<u64>,
}

/// A proxy before one address; it ends with this value.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    controls: Arc<Controls>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// Starts one.
    pub async fn before(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let controls = Arc::new(Controls {
            passing: watch::Sender::new(Passing::After(Duration::ZERO)),
            generation: watch::Sender::new(0),
        });
        let shared = Arc::clone(&controls);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, target, Arc::clone(&shared)));
            }
        });
        Self { address, controls, accepting }
    }

    /// Where to connect.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends all connections. New ones are let through.
    pub fn cut(&self) {
        self.controls.generation.send_modify(|generation| *generation += 1);
    }

    /// Lets nothing pass any more, on old connections and new ones, without a word to anybody.
    pub fn freeze(&self) {
        self.controls.passing.send_replace(Passing::Never);
    }

    /// Delays each way by so much.
    pub fn delay(&self, delay: Duration) {
        self.controls.passing.send_replace(Passing::After(delay));
    }

    /// Lets everything pass again; what was frozen stays lost, with its connections.
    pub fn thaw(&self) {
        self.controls.passing.send_replace(Passing::After(Duration::ZERO));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

async fn carry(client: TcpStream, target: SocketAddr, controls: Arc<Controls>) {
    let mut generation = controls.generation.subscribe();
    generation.mark_unchanged();
    let Ok(server) = TcpStream::connect(target).await else { return };
    for stream in [&client, &server] {
        stream.set_nodelay(true).unwrap();
    }
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let there = pass(from_client, to_server, controls.passing.subscribe());
    let back = pass(from_server, to_client, controls.passing.subscribe());
    tokio::select! {
        () = there => {}
        () = back => {}
        _cut = generation.changed() => {}
    }
}

/// Carries bytes, each as long after it came as is said at that time.
async fn pass(
    mut from: impl AsyncRead + Unpin + Send + 'static,
    mut to: impl AsyncWrite + Unpin,
    passing: watch::Receiver<Passing>,
) {
    let (queue, mut queued) = mpsc::channel::<(Instant, Vec<u8>)>(1024);
    let reading = async move {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            let now = *passing.borrow();
            match now {
                Passing::Never => {}
                Passing::After(delay) => {
                    if queue.send((Instant::now() + delay, buffer[..count].to_vec())).await.is_err() {
                        return;
                    }
                }
            }
        }
    };
    let writing = async {
        while let Some((at, bytes)) = queued.recv().await {
            tokio::time::sleep_until(at).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(reading, writing);
}
