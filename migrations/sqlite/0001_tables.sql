-- The tables of distributed-events on SQLite.
--
-- Times are milliseconds since 1970 by this database's clock, so that no two clocks are ever compared.
-- Indexes of open rows are partial: what was sent or processed costs the loops nothing, however much of it is kept.
-- AUTOINCREMENT, because a plain rowid may come again once the newest row is deleted, and seq is the order.

CREATE TABLE outbox (
    seq            INTEGER PRIMARY KEY AUTOINCREMENT,
    id             BLOB    NOT NULL,  -- the event's UUID, 16 bytes; the message id on the wire
    event_type     TEXT    NOT NULL,
    event_data     TEXT    NOT NULL,
    created_at     INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000 AS INTEGER)),
    processed_at   INTEGER,           -- when it was sent or ended dead; retention goes by it, never by the id
    status         TEXT    NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'sent', 'dead')),
    topic          TEXT,              -- NULL: the relay's default
    lane           TEXT    NOT NULL DEFAULT 'default',
    session_id     TEXT,
    correlation_id TEXT,
    causation_id   TEXT,
    headers        TEXT    NOT NULL DEFAULT '{}',
    event_version  INTEGER NOT NULL DEFAULT 1,
    deliver_at     INTEGER,           -- NULL: never delayed; such rows alone are read by seq, so that a delayed one blocks nobody
    expires_at     INTEGER,
    attempts       INTEGER NOT NULL DEFAULT 0,
    next_attempt_at INTEGER,
    last_error     TEXT
);

CREATE UNIQUE INDEX outbox_id ON outbox (id);
-- deliver_at is always NULL here; with it in the index SQLite counts a backlog without reading its rows.
CREATE INDEX outbox_pending ON outbox (lane, seq, deliver_at) WHERE status = 'pending' AND deliver_at IS NULL;
CREATE INDEX outbox_due ON outbox (lane, deliver_at, seq) WHERE status = 'pending' AND deliver_at IS NOT NULL;
-- Led by seq, because operators page through the dead rows of all lanes at once.
CREATE INDEX outbox_dead ON outbox (seq, lane) WHERE status = 'dead';
-- What retention deletes is a range of this one.
CREATE INDEX outbox_sent ON outbox (processed_at) WHERE status = 'sent';

CREATE TABLE inbox (
    seq            INTEGER PRIMARY KEY AUTOINCREMENT,
    subscription   TEXT    NOT NULL,
    id             BLOB    NOT NULL,  -- the event's UUID, 16 bytes
    message_id     TEXT    NOT NULL,  -- what the wire had, which need not be a UUID
    event_type     TEXT    NOT NULL,
    event_data     TEXT,              -- NULL: the body is in raw, or retention has taken it
    raw            BLOB,              -- a body that is not text
    created_at     INTEGER,           -- when it was published, where the message says so
    received_at    INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000 AS INTEGER)),
    processed_at   INTEGER,           -- when it was processed, discarded or ended dead
    status         TEXT    NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'processed', 'dead', 'discarded')),
    shard          INTEGER NOT NULL,  -- hash of the session, or of the id where there is none
    topic          TEXT,
    session_id     TEXT,
    correlation_id TEXT,
    causation_id   TEXT,
    headers        TEXT    NOT NULL DEFAULT '{}',
    event_version  INTEGER NOT NULL DEFAULT 1,
    expires_at     INTEGER,
    attempts       INTEGER NOT NULL DEFAULT 0,
    next_attempt_at INTEGER,
    last_error     TEXT
);

-- What makes a redelivery harmless.
CREATE UNIQUE INDEX inbox_id ON inbox (subscription, id);
CREATE INDEX inbox_pending ON inbox (subscription, shard, seq) WHERE status = 'pending';
CREATE INDEX inbox_dead ON inbox (seq, subscription) WHERE status = 'dead';
CREATE INDEX inbox_processed ON inbox (processed_at) WHERE status = 'processed';
-- A row leaves this index when its body goes, so that retention never looks at it again while the key stays.
CREATE INDEX inbox_bodies ON inbox (processed_at)
    WHERE status IN ('processed', 'discarded') AND (event_data IS NOT NULL OR raw IS NOT NULL);

-- Who works on what: 'outbox:<lane>' and the shards of subscriptions.
CREATE TABLE distributed_events_leases (
    name    TEXT    PRIMARY KEY,
    owner   BLOB,                         -- fresh at every taking; NULL when free
    epoch   INTEGER NOT NULL DEFAULT 0,   -- counts the takings
    until   INTEGER,
    unclean INTEGER NOT NULL DEFAULT 0,   -- whether the holder before this one never gave it back
    broker  TEXT                          -- of a lane: the broker that it is bound to
) WITHOUT ROWID;

-- What each live instance handles, so that a rolling deployment loses nothing.
CREATE TABLE distributed_events_instances (
    id      BLOB    PRIMARY KEY,
    until   INTEGER NOT NULL,
    lasts   INTEGER NOT NULL,  -- the time of one announcement; tells a clock that jumped from a long life
    handles TEXT    NOT NULL   -- JSON
) WITHOUT ROWID;

-- The local broker's memory: who subscribes, in which database's inbox.
CREATE TABLE distributed_events_subscriptions (
    store  TEXT NOT NULL,
    topic  TEXT NOT NULL,
    name   TEXT NOT NULL,
    events TEXT NOT NULL,  -- JSON
    PRIMARY KEY (store, topic, name)
) WITHOUT ROWID;

-- Events that a local subscription has not got yet, because its database was away.
CREATE TABLE distributed_events_owed (
    seq          INTEGER PRIMARY KEY AUTOINCREMENT,
    store        TEXT    NOT NULL,
    subscription TEXT    NOT NULL,
    id           BLOB    NOT NULL,
    event        TEXT    NOT NULL,  -- JSON
    owed_at      INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000 AS INTEGER))
);

CREATE INDEX distributed_events_owed_store ON distributed_events_owed (store, seq);
-- Owing an event twice, after a crash between owing it and marking it as sent, is owing it once.
CREATE UNIQUE INDEX distributed_events_owed_id ON distributed_events_owed (store, subscription, id);
