//! The service's own rows, in its own transactions.

use sqlx::Error;

use super::driver::{LOCK_TIMEOUT, ModelConnection};
use super::rows::Business;
use super::server::Inner;
use super::table::Tx;

impl ModelConnection {
    /// Adds a row.
    pub async fn add(&mut self, row: Business) -> Result<i64, Error> {
        let call = |inner: &mut Inner, _now: i64, tx: Tx| Ok(inner.business.insert(tx, row.clone()));
        self.run("add", LOCK_TIMEOUT, call).await
    }

    /// Changes a row, which is locked from then on, and returns it as it is now.
    pub async fn change(
        &mut self,
        seq: i64,
        change: impl Fn(&Business) -> Business + Send,
    ) -> Result<Option<Business>, Error> {
        let call = |inner: &mut Inner, _now: i64, tx: Tx| {
            inner.business.change(tx, seq, |row| Some(Some(change(row))))?;
            Ok(inner.business.seen(Some(tx)).find(|(other, _)| *other == seq).map(|(_, row)| row.clone()))
        };
        self.run("change", LOCK_TIMEOUT, call).await
    }
}
