//! Both services' databases, as the harness sees them: their tables made, filled and read.

use distributed_events::storage::Storage as _;
use tests::outages::eventually_ok;
use tests::private_server::PrivateServer;

use crate::checker::{Books, Entry, Placed};
use crate::events::Fate;
use crate::ground::{Ground, numbers};
use crate::load::{self, ACCOUNTS, OPENING_CENTS};
use crate::service::LEASE;
use crate::{billing, ordering};

/// The two databases.
#[derive(Debug)]
pub struct Ledgers<G> {
    /// Ordering's.
    pub ordering: G,
    /// Billing's.
    pub billing: G,
    seed: u64,
}

/// What is left to be done: where, and how much.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Left {
    rows: Vec<(String, i64)>,
    leases: Vec<(String, i64)>,
}

impl Left {
    /// Whether everything is done.
    pub fn is_nothing(&self) -> bool {
        self.rows.iter().chain(&self.leases).all(|(_, count)| *count == 0)
    }
}

impl<G: Ground> Ledgers<G> {
    /// New ones, with the library's tables and the services'.
    pub async fn new(seed: u64, server: Option<&PrivateServer>) -> Self {
        let ledgers = Self { ordering: G::on(server).await, billing: G::on(server).await, seed };
        let made = [
            (&ledgers.ordering, ordering::tables::<G>(), ordering::opening()),
            (&ledgers.billing, billing::tables::<G>(), billing::opening()),
        ];
        for (database, tables, opening) in made {
            G::DB::migrate(database.pool()).await.unwrap();
            for sql in tables.iter().chain([&opening]) {
                database.execute(sql).await;
            }
        }
        ledgers
    }

    fn both(&self) -> [(&'static str, &G); 2] {
        [("ordering", &self.ordering), ("billing", &self.billing)]
    }

    /// Whether each service is recorded as a subscriber with the other.
    pub async fn know_each_other(&self) -> bool {
        let sql = "SELECT count(*) FROM distributed_events_subscriptions WHERE name = ";
        let billing = column(&self.ordering, &format!("{sql} 'billing'")).await;
        let ordering = column(&self.billing, &format!("{sql} 'ordering'")).await;
        billing[0] > 0 && ordering[0] > 0
    }

    /// Lets orders below this number be placed.
    pub async fn demand(&self, orders: i64) {
        eventually_ok(|| async {
            let mut tx =
                self.ordering.pool().begin_with(G::DB::BEGIN).await.map_err(|error| error.to_string())?;
            for sql in
                ["DELETE FROM demand".to_owned(), format!("INSERT INTO demand (orders) VALUES ({orders})")]
            {
                G::run(&mut tx, &sql).await.map_err(|error| error.to_string())?;
            }
            tx.commit().await.map_err(|error| error.to_string())
        })
        .await;
    }

    /// Lets no more orders be placed than there are, but for gaps; returns below which number that is.
    pub async fn end_demand(&self) -> i64 {
        let end = 1 + column(&self.ordering, "SELECT coalesce(max(id), -1) FROM orders").await[0];
        self.demand(end).await;
        end
    }

    /// What is left to be done of the orders below this number.
    pub async fn left(&self, orders: i64) -> Left {
        let mut left = Left::default();
        let count = async |database: &G, sql: &str| column(database, sql).await[0];
        let placed = count(&self.ordering, &format!("SELECT count(*) FROM orders WHERE id < {orders}")).await;
        let wanted = load::committed(self.seed, u64::try_from(orders).unwrap());
        left.rows.push(("orders to be placed".to_owned(), wanted - placed));
        for (name, database) in self.both() {
            for (what, sql) in [
                ("pending in the outbox", "SELECT count(*) FROM outbox WHERE status = 'pending'"),
                ("dead in the outbox", "SELECT count(*) FROM outbox WHERE status = 'dead'"),
                ("pending in the inbox", "SELECT count(*) FROM inbox WHERE status = 'pending'"),
                ("owed to the other", "SELECT count(*) FROM distributed_events_owed"),
            ] {
                left.rows.push((format!("{what} of {name}"), count(database, sql).await));
            }
            let overdue = format!(
                "SELECT count(*) FROM distributed_events_leases WHERE owner IS NOT NULL AND {}",
                G::overdue(LEASE.as_millis())
            );
            left.leases.push((format!("not taken over in {name}"), count(database, &overdue).await));
        }
        let refused = Fate::Refused.number();
        let unbilled = format!("SELECT count(*) FROM placed WHERE billed = 0 AND fate <> {refused}");
        left.rows.push(("not billed".to_owned(), count(&self.ordering, &unbilled).await));
        let refused = format!("SELECT count(*) FROM placed WHERE fate = {refused}");
        let refused = count(&self.ordering, &refused).await;
        let dead = count(&self.billing, "SELECT count(*) FROM inbox WHERE status = 'dead'").await;
        left.rows.push(("refused and not dead".to_owned(), refused - dead));
        left
    }

    /// Everything, when all have stopped.
    pub async fn read(&self, left: Left) -> Books {
        let mut orphans = left.leases;
        for (name, database) in self.both() {
            let held = "SELECT count(*) FROM distributed_events_leases WHERE owner IS NOT NULL";
            orphans.push((format!("not given back in {name}"), column(database, held).await[0]));
        }
        Books {
            placed: self.placed().await,
            ledger: entries(&self.billing, "ledger").await,
            answers: entries(&self.ordering, "answers").await,
            opening: ACCOUNTS * OPENING_CENTS,
            accounts: column(&self.ordering, "SELECT cents FROM accounts").await.iter().sum(),
            tills: column(&self.billing, "SELECT cents FROM tills").await.iter().sum(),
            pending: left.rows,
            orphans,
        }
    }

    async fn placed(&self) -> Vec<Placed> {
        let columns = ["session", "n", "line", "cents", "fate", "billed"];
        let rows = rows(&self.ordering, "placed", "line", columns).await;
        rows.into_iter()
            .map(|[session, n, line, cents, fate, billed]| Placed { session, n, line, cents, fate, billed })
            .collect()
    }
}

async fn entries<G: Ground>(database: &G, table: &str) -> Vec<Entry> {
    let rows = rows(database, table, "seq", ["session", "n", "line", "cents"]).await;
    rows.into_iter().map(|[session, n, line, cents]| Entry { session, n, line, cents }).collect()
}

/// Some columns of a table, in the order of one; nobody writes any more.
async fn rows<G: Ground, const N: usize>(
    database: &G,
    table: &str,
    order: &str,
    columns: [&str; N],
) -> Vec<[i64; N]> {
    let mut rows = Vec::new();
    for (index, name) in columns.into_iter().enumerate() {
        let found = column(database, &format!("SELECT {name} FROM {table} ORDER BY {order}")).await;
        rows.resize(found.len(), [0; N]);
        for (row, value) in rows.iter_mut().zip(found) {
            row[index] = value;
        }
    }
    rows
}

/// A column of numbers, as soon as the database is there.
async fn column<G: Ground>(database: &G, sql: &str) -> Vec<i64> {
    eventually_ok(|| numbers::<G>(database.pool(), sql)).await
}
