//! The wires of one run, each with a proxy on it.

use std::net::SocketAddr;
use std::time::Duration;

use tests::proxy::Proxy;

use crate::faults::Wire;

/// Proxies, where there is a wire.
#[derive(Debug, Default)]
pub struct Wires {
    broker: Option<Proxy>,
    ordering: Option<Proxy>,
    billing: Option<Proxy>,
}

impl Wires {
    /// Puts a proxy before this address.
    pub async fn put(&mut self, wire: Wire, target: SocketAddr) -> SocketAddr {
        let proxy = Proxy::before(target).await;
        let address = proxy.address();
        *self.place(wire) = Some(proxy);
        address
    }

    /// Puts one before a database server, and gives the database's URL by way of it.
    pub async fn put_before_database(&mut self, wire: Wire, url: &str) -> String {
        let after = url.find("127.0.0.1:").unwrap() + "127.0.0.1:".len();
        let digits = url[after..].find(|other: char| !other.is_ascii_digit()).unwrap();
        let (port, rest) = url[after..].split_at(digits);
        let address = self.put(wire, SocketAddr::from(([127, 0, 0, 1], port.parse().unwrap()))).await;
        format!("{}{}{rest}", &url[..after], address.port())
    }

    const fn place(&mut self, wire: Wire) -> &mut Option<Proxy> {
        match wire {
            Wire::Broker => &mut self.broker,
            Wire::Ordering => &mut self.ordering,
            Wire::Billing => &mut self.billing,
        }
    }

    fn on(&mut self, wire: Wire, does: impl FnOnce(&Proxy)) {
        if let Some(proxy) = self.place(wire) {
            does(proxy);
        }
    }

    /// Ends its connections.
    pub fn cut(&mut self, wire: Wire) {
        self.on(wire, Proxy::cut);
    }

    /// Lets nothing pass.
    pub fn silence(&mut self, wire: Wire) {
        self.on(wire, Proxy::freeze);
    }

    /// Lets everything pass later.
    pub fn slow(&mut self, wire: Wire, by: Duration) {
        self.on(wire, |proxy| proxy.delay(by));
    }

    /// Is a good wire again. What was lost in the silence is lost: a broker's client must notice by itself, and a
    /// database's is told, as its machine would tell it.
    pub fn mend(&mut self, wire: Wire, was_silent: bool) {
        self.on(wire, |proxy| {
            proxy.thaw();
            if was_silent && wire != Wire::Broker {
                proxy.cut();
            }
        });
    }
}
