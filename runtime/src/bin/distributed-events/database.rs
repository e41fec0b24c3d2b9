//! Which database a command is about, and the way to it.

use std::fmt;
use std::time::Duration;

use distributed_events::Storage;
use sqlx::pool::PoolOptions;
use sqlx::{Connection, Database, Pool};

use crate::failure::Failure;

#[cfg(feature = "sqlite")]
mod unopened;

/// The kinds of databases, by the scheme of a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    Postgres,
    #[value(alias = "mariadb")]
    Mysql,
    Sqlite,
}

impl Kind {
    pub(crate) const fn feature(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Mysql => "mysql",
            Self::Sqlite => "sqlite",
        }
    }

    /// # Errors
    /// When this binary was built without it.
    pub(crate) fn built_in(self) -> Result<Self, Failure> {
        let built_in = match self {
            Self::Postgres => cfg!(feature = "postgres"),
            Self::Mysql => cfg!(feature = "mysql"),
            Self::Sqlite => cfg!(feature = "sqlite"),
        };
        if built_in { Ok(self) } else { Err(self.missing()) }
    }

    pub(crate) fn missing(self) -> Failure {
        let feature = self.feature();
        Failure::Usage(format!(
            "this binary was built without the feature `{feature}`: build one that has it, for example with `cargo install \
             distributed-events --features cli,{feature}`"
        ))
    }
}

/// A database's URL. It is shown without the password, and without what follows a `?`.
#[derive(Clone)]
pub(crate) struct DatabaseUrl {
    kind: Kind,
    text: String,
}

impl DatabaseUrl {
    /// Takes the URL apart as far as its kind; `origin` is where it was given.
    ///
    /// # Errors
    /// When it is none, or this binary knows nothing of that kind.
    pub(crate) fn parse(text: &str, origin: &str) -> Result<Self, Failure> {
        // MariaDB has a scheme of its own that sqlx takes, too.
        let kind = match text.split_once(':').map(|(scheme, _)| scheme) {
            Some("postgres" | "postgresql") => Kind::Postgres,
            Some("mysql" | "mariadb") => Kind::Mysql,
            Some("sqlite") => Kind::Sqlite,
            // The rest of it may be a password.
            _ => {
                return Err(Failure::Usage(format!(
                    "{origin} is not the URL of a database: it begins with postgres://, mysql:// (or mariadb://), or sqlite:"
                )));
            }
        };
        Ok(Self { kind: kind.built_in()?, text: text.to_owned() })
    }

    pub(crate) const fn kind(&self) -> Kind {
        self.kind
    }

    /// Makes a pool of so many connections, once one has succeeded: a pool would try again and again, and tell nothing but
    /// that it has waited.
    ///
    /// # Errors
    /// When the URL can't be read, or the database not be reached.
    pub(crate) async fn open<DB: Database + Storage>(&self, connections: u32) -> Result<Pool<DB>, Failure> {
        let connected = tokio::time::timeout(PATIENCE, <DB::Connection as Connection>::connect(&self.text));
        let first = connected.await.map_err(|_elapsed| self.unreachable(&sqlx::Error::PoolTimedOut))?;
        let first = first.map_err(|error| self.unreachable(&error))?;
        // What is said on leaving changes nothing.
        let _left = first.close().await;
        self.open_later(connections)
    }

    /// Makes a pool that connects when it is used.
    ///
    /// # Errors
    /// When the URL can't be read.
    pub(crate) fn open_later<DB: Database + Storage>(&self, connections: u32) -> Result<Pool<DB>, Failure> {
        let options = PoolOptions::new().max_connections(connections).acquire_timeout(PATIENCE);
        options.connect_lazy(&self.text).map_err(|error| self.unreachable(&error))
    }

    fn unreachable(&self, error: &sqlx::Error) -> Failure {
        if let sqlx::Error::Configuration(error) = error {
            return Failure::Usage(format!("the database's URL {self} can't be read: {error}"));
        }
        #[cfg(feature = "sqlite")]
        if self.kind == Kind::Sqlite
            && let Some(reason) = unopened::reason(&self.text, error)
        {
            return Failure::Failed(format!("there is no database {self}: {reason}"));
        }
        Failure::Failed(format!(
            "the database {self} can't be reached: {error}; look whether it runs, and whether host, user and password are right"
        ))
    }

    /// The same for a file that is created where there is none.
    pub(crate) fn creating(&self) -> Self {
        let mut creating = self.clone();
        if self.kind == Kind::Sqlite && !self.text.contains("mode=") {
            creating.text.push_str(if self.text.contains('?') { "&mode=rwc" } else { "?mode=rwc" });
        }
        creating
    }
}

/// How long a command waits for a connection.
const PATIENCE: Duration = Duration::from_secs(10);

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind == Kind::Sqlite {
            return f.write_str(self.text.split(['?', '#']).next().unwrap_or_default());
        }
        let (scheme, rest) = self.text.split_once(':').unwrap_or((&self.text, ""));
        let rest = rest.trim_start_matches('/');
        // A password may have anything in it that should have been escaped: the last @ ends it.
        let (login, place) =
            rest.rsplit_once('@').map_or((None, rest), |(login, place)| (Some(login), place));
        let place = place.split(['?', '#']).next().unwrap_or_default();
        match login {
            Some(login) => write!(f, "{scheme}://{}@{place}", login.split(':').next().unwrap_or_default()),
            None => write!(f, "{scheme}://{place}"),
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseUrl({self})")
    }
}

/// Runs an expression with a pool of the database's kind, of so many connections.
macro_rules! on_database {
    ($url:expr, $connections:expr, |$pool:ident| $body:expr) => {{
        let url: &$crate::database::DatabaseUrl = $url;
        match url.kind() {
            #[cfg(feature = "postgres")]
            $crate::database::Kind::Postgres => {
                let $pool = url.open::<sqlx::Postgres>($connections).await?;
                $body
            }
            #[cfg(feature = "mysql")]
            $crate::database::Kind::Mysql => {
                let $pool = url.open::<sqlx::MySql>($connections).await?;
                $body
            }
            #[cfg(feature = "sqlite")]
            $crate::database::Kind::Sqlite => {
                let $pool = url.open::<sqlx::Sqlite>($connections).await?;
                $body
            }
            #[allow(unreachable_patterns, reason = "where every database is built in")]
            kind => Err(kind.missing()),
        }
    }};
}

pub(crate) use on_database;

#[cfg(all(test, feature = "postgres", feature = "sqlite"))]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_what_is_secret() {
        let shown = |text: &str| DatabaseUrl::parse(text, "it").unwrap().to_string();
        assert_eq!(shown("postgres://shop:s3cret@db:5432/shop?password=x"), "postgres://shop@db:5432/shop");
        assert_eq!(shown("postgres://shop:p@ss/word@db/shop"), "postgres://shop@db/shop");
        assert_eq!(shown("postgres://shop:pa?ss#word@db/shop"), "postgres://shop@db/shop");
        assert_eq!(shown("postgres:shop:s3cret@db/shop"), "postgres://shop@db/shop");
        assert_eq!(shown("postgresql:/shop:s3cret@db/shop"), "postgresql://shop@db/shop");
        assert_eq!(shown("postgresql://db/shop"), "postgresql://db/shop");
        assert_eq!(shown("sqlite:/tmp/a@b.db?mode=rwc"), "sqlite:/tmp/a@b.db");
        let error = DatabaseUrl::parse("Server=db;Password=s3cret", "--database-url").unwrap_err();
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }
}
