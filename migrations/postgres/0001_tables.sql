-- The tables of distributed-events on PostgreSQL. They stand in the first schema of the search_path.
--
-- Times are whole milliseconds by this database's clock, so that what is read back is what was written, and no two clocks
-- are ever compared. clock_timestamp(), because now() stands still for as long as a transaction is open.
-- Indexes of open rows are partial: what was sent or processed costs the loops nothing, however much of it is kept.
-- Keys are compared as bytes (COLLATE "C"): exact whatever the database's collation is, and no index breaks when the
-- operating system's collations change.
-- Half of every page is left free for the row's next version, and vacuum comes by number, not by share, of dead rows.
-- The identity's sequence keeps CACHE 1, or connections would hand out ranges, and seq is the order.

CREATE TABLE outbox (
    seq            bigint  GENERATED ALWAYS AS IDENTITY (CACHE 1),
    id             uuid    NOT NULL,  -- the event's UUID; the message id on the wire
    event_type     text    NOT NULL,
    event_data     text    NOT NULL,
    created_at     timestamptz(3) NOT NULL DEFAULT date_trunc('milliseconds', clock_timestamp()),
    processed_at   timestamptz(3),    -- when it was sent or ended dead; retention goes by it, never by the id
    status         text    NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'sent', 'dead')),
    topic          text,              -- NULL: the relay's default
    lane           text    COLLATE "C" NOT NULL DEFAULT 'default',
    session_id     text,
    correlation_id text,
    causation_id   text,
    headers        text    NOT NULL DEFAULT '{}',
    event_version  bigint  NOT NULL DEFAULT 1,  -- an unsigned 32-bit number
    deliver_at     timestamptz(3),    -- NULL: never delayed; such rows alone are read by seq, so that a delayed one blocks nobody
    expires_at     timestamptz(3),
    attempts       bigint  NOT NULL DEFAULT 0,
    next_attempt_at timestamptz(3),
    last_error     text,
    CONSTRAINT outbox_id PRIMARY KEY (id)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 50000);

-- There is no index on seq alone (SQLite's rowid has one for nothing): a read in the order of seq could be planned as a
-- walk along it, through everything that was sent.
CREATE INDEX outbox_pending ON outbox (lane, seq) WHERE status = 'pending' AND deliver_at IS NULL;
CREATE INDEX outbox_due ON outbox (lane, deliver_at, seq) WHERE status = 'pending' AND deliver_at IS NOT NULL;
-- Where the next page of delayed rows begins. The state is written so that no other read can be planned to use it.
CREATE UNIQUE INDEX outbox_due_seq ON outbox (seq) WHERE status || '' = 'pending' AND deliver_at IS NOT NULL;
-- Led by seq, because operators page through the dead rows of all lanes at once.
CREATE INDEX outbox_dead ON outbox (seq, lane) WHERE status = 'dead';
-- What retention deletes is a range of this one.
CREATE INDEX outbox_sent ON outbox (processed_at) WHERE status = 'sent';

CREATE TABLE inbox (
    seq            bigint  GENERATED ALWAYS AS IDENTITY (CACHE 1),
    subscription   text    COLLATE "C" NOT NULL,
    id             uuid    NOT NULL,  -- the event's UUID
    message_id     text    NOT NULL,  -- what the wire had, which need not be a UUID
    event_type     text    NOT NULL,
    event_data     text,              -- NULL: the body is in raw, or retention has taken it
    raw            bytea,             -- a body that is not text
    created_at     timestamptz(3),    -- when it was published, where the message says so
    received_at    timestamptz(3) NOT NULL DEFAULT date_trunc('milliseconds', clock_timestamp()),
    processed_at   timestamptz(3),    -- when it was processed, discarded or ended dead
    status         text    NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'processed', 'dead', 'discarded')),
    shard          smallint NOT NULL, -- hash of the session, or of the id where there is none
    topic          text,
    session_id     text    COLLATE "C",
    correlation_id text,
    causation_id   text,
    headers        text    NOT NULL DEFAULT '{}',
    event_version  bigint  NOT NULL DEFAULT 1,  -- an unsigned 32-bit number
    expires_at     timestamptz(3),
    attempts       bigint  NOT NULL DEFAULT 0,
    next_attempt_at timestamptz(3),
    last_error     text,
    -- What makes a redelivery harmless.
    CONSTRAINT inbox_id PRIMARY KEY (subscription, id)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 50000);

-- Single rows by seq. An expression, because a read in the order of seq could be planned as a walk along a plain index.
CREATE UNIQUE INDEX inbox_seq ON inbox ((seq + 0));
CREATE INDEX inbox_pending ON inbox (subscription, shard, seq) WHERE status = 'pending';
CREATE INDEX inbox_dead ON inbox (seq, subscription) WHERE status = 'dead';
CREATE INDEX inbox_processed ON inbox (processed_at) WHERE status = 'processed';
-- A row leaves this index when its body goes, so that retention never looks at it again while the key stays.
CREATE INDEX inbox_bodies ON inbox (processed_at)
    WHERE status IN ('processed', 'discarded') AND (event_data IS NOT NULL OR raw IS NOT NULL);

-- Who works on what: 'outbox:<lane>' and the shards of subscriptions.
CREATE TABLE distributed_events_leases (
    name    text    COLLATE "C" PRIMARY KEY,
    owner   uuid,                            -- fresh at every taking; NULL when free
    epoch   bigint  NOT NULL DEFAULT 0,      -- counts the takings
    until   timestamptz(3),
    unclean boolean NOT NULL DEFAULT false,  -- whether the holder before this one never gave it back
    broker  text                             -- of a lane: the broker that it is bound to
) WITH (fillfactor = 50);

-- What each live instance handles, so that a rolling deployment loses nothing.
CREATE TABLE distributed_events_instances (
    id      uuid    PRIMARY KEY,
    until   timestamptz(3) NOT NULL,
    lasts   bigint  NOT NULL,  -- milliseconds of one announcement; tells a clock that jumped from a long life
    handles text    NOT NULL   -- JSON
) WITH (fillfactor = 50);

-- The local broker's memory: who subscribes, in which database's inbox.
CREATE TABLE distributed_events_subscriptions (
    store  text COLLATE "C" NOT NULL,
    topic  text COLLATE "C" NOT NULL,
    name   text COLLATE "C" NOT NULL,
    events text NOT NULL,  -- JSON
    PRIMARY KEY (store, topic, name)
);

-- Events that a local subscription has not got yet, because its database was away.
CREATE TABLE distributed_events_owed (
    seq          bigint  GENERATED ALWAYS AS IDENTITY (CACHE 1) PRIMARY KEY,
    store        text    COLLATE "C" NOT NULL,
    subscription text    COLLATE "C" NOT NULL,
    id           uuid    NOT NULL,
    event        text    NOT NULL,  -- JSON
    owed_at      timestamptz(3) NOT NULL DEFAULT date_trunc('milliseconds', clock_timestamp())
);

CREATE INDEX distributed_events_owed_store ON distributed_events_owed (store, seq);
-- Owing an event twice, after a crash between owing it and marking it as sent, is owing it once.
CREATE UNIQUE INDEX distributed_events_owed_id ON distributed_events_owed (store, subscription, id);
