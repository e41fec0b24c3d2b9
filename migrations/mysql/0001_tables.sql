-- The tables of distributed-events on MariaDB and MySQL.
--
-- Times are milliseconds since 1970 by this database's clock, so that no two clocks are ever compared, and no session's
-- time zone or SQL mode ever counts.
-- No partial indexes here: those of open rows are led by status, so that what was sent or processed costs the loops
-- nothing, however much of it is kept.
-- What is compared is compared byte by byte and without padding: 'billing' is neither 'Billing' nor 'billing '. MariaDB
-- runs the comments that begin with M!, MySQL the ones that begin with its version.
-- IF NOT EXISTS, because each statement commits: whoever comes after a crash goes on where it happened.

CREATE TABLE IF NOT EXISTS outbox (
    seq            BIGINT       NOT NULL AUTO_INCREMENT PRIMARY KEY,
    id             BINARY(16)   NOT NULL,  -- the event's UUID; the message id on the wire
    event_type     TEXT         NOT NULL,
    event_data     LONGTEXT     NOT NULL,
    created_at     BIGINT       NOT NULL DEFAULT (TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(3)) DIV 1000),
    processed_at   BIGINT,                 -- when it was sent or ended dead; retention goes by it, never by the id
    status         VARCHAR(16)  NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'sent', 'dead')),
    topic          TEXT,                   -- NULL: the relay's default
    lane           VARCHAR(255) NOT NULL DEFAULT 'default',
    session_id     VARCHAR(512),
    correlation_id TEXT,
    causation_id   TEXT,
    headers        LONGTEXT     NOT NULL DEFAULT ('{}'),
    event_version  BIGINT       NOT NULL DEFAULT 1,
    deliver_at     BIGINT,                 -- NULL: never delayed; such rows alone are read by seq, so that a delayed one blocks nobody
    expires_at     BIGINT,
    attempts       INT          NOT NULL DEFAULT 0,
    next_attempt_at BIGINT,
    last_error     LONGTEXT,

    UNIQUE KEY outbox_id (id),
    -- Also the index of delayed rows, which is another one where there are partial indexes.
    KEY outbox_pending (status, lane, deliver_at, seq),
    -- Without the lane, because operators page through the dead rows of all lanes at once.
    KEY outbox_dead (status, seq),
    -- What retention deletes is a range of this one.
    KEY outbox_sent (status, processed_at)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET utf8mb4
  /*M! COLLATE utf8mb4_nopad_bin */ /*!80017 COLLATE utf8mb4_0900_bin */ COMMENT = 'distributed-events';

CREATE TABLE IF NOT EXISTS inbox (
    seq            BIGINT       NOT NULL AUTO_INCREMENT PRIMARY KEY,
    subscription   VARCHAR(255) NOT NULL,
    id             BINARY(16)   NOT NULL,  -- the event's UUID
    message_id     TEXT         NOT NULL,  -- what the wire had, which need not be a UUID
    event_type     TEXT         NOT NULL,
    event_data     LONGTEXT,               -- NULL: the body is in raw, or retention has taken it
    raw            LONGBLOB,               -- a body that is not text
    created_at     BIGINT,                 -- when it was published, where the message says so
    received_at    BIGINT       NOT NULL DEFAULT (TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(3)) DIV 1000),
    processed_at   BIGINT,                 -- when it was processed, discarded or ended dead
    status         VARCHAR(16)  NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'processed', 'dead', 'discarded')),
    shard          INT          NOT NULL,  -- hash of the session, or of the id where there is none
    topic          TEXT,
    session_id     VARCHAR(512),
    correlation_id TEXT,
    causation_id   TEXT,
    headers        LONGTEXT     NOT NULL DEFAULT ('{}'),
    event_version  BIGINT       NOT NULL DEFAULT 1,
    expires_at     BIGINT,
    attempts       INT          NOT NULL DEFAULT 0,
    next_attempt_at BIGINT,
    last_error     LONGTEXT,
    -- What a partial index would say: whether retention still has to take the body.
    has_body       TINYINT      NOT NULL DEFAULT 1,
    -- The connection that marked the row as processed: what tells a transaction that lost its guard whether its own mark
    -- was committed or another's.
    marked_by      BIGINT UNSIGNED,

    -- What makes a redelivery harmless.
    UNIQUE KEY inbox_id (subscription, id),
    KEY inbox_pending (status, subscription, shard, seq),
    KEY inbox_dead (status, seq),
    -- A row leaves the part with bodies when its body goes, so that retention never looks at it again while the key stays.
    KEY inbox_settled (status, has_body, processed_at)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET utf8mb4
  /*M! COLLATE utf8mb4_nopad_bin */ /*!80017 COLLATE utf8mb4_0900_bin */ COMMENT = 'distributed-events';

-- Who works on what: 'outbox:<lane>' and the shards of subscriptions.
CREATE TABLE IF NOT EXISTS distributed_events_leases (
    name    VARCHAR(512) NOT NULL PRIMARY KEY,
    owner   BINARY(16),                   -- fresh at every taking; NULL when free
    epoch   BIGINT       NOT NULL DEFAULT 0,   -- counts the takings
    until   BIGINT,
    unclean TINYINT      NOT NULL DEFAULT 0,   -- whether the holder before this one never gave it back
    broker  TEXT                          -- of a lane: the broker that it is bound to
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET utf8mb4
  /*M! COLLATE utf8mb4_nopad_bin */ /*!80017 COLLATE utf8mb4_0900_bin */ COMMENT = 'distributed-events';

-- What each live instance handles, so that a rolling deployment loses nothing.
CREATE TABLE IF NOT EXISTS distributed_events_instances (
    id      BINARY(16) NOT NULL PRIMARY KEY,
    until   BIGINT     NOT NULL,
    lasts   BIGINT     NOT NULL,  -- the time of one announcement; tells a clock that jumped from a long life
    handles LONGTEXT   NOT NULL   -- JSON
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET utf8mb4
  /*M! COLLATE utf8mb4_nopad_bin */ /*!80017 COLLATE utf8mb4_0900_bin */ COMMENT = 'distributed-events';

-- The local broker's memory: who subscribes, in which database's inbox.
CREATE TABLE IF NOT EXISTS distributed_events_subscriptions (
    store  VARCHAR(512) NOT NULL,
    topic  VARCHAR(128) NOT NULL,  -- all three fill the 3,072 bytes that a key may have
    name   VARCHAR(128) NOT NULL,
    events LONGTEXT     NOT NULL,  -- JSON
    PRIMARY KEY (store, topic, name)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET utf8mb4
  /*M! COLLATE utf8mb4_nopad_bin */ /*!80017 COLLATE utf8mb4_0900_bin */ COMMENT = 'distributed-events';

-- Events that a local subscription has not got yet, because its database was away.
CREATE TABLE IF NOT EXISTS distributed_events_owed (
    seq          BIGINT       NOT NULL AUTO_INCREMENT PRIMARY KEY,
    store        VARCHAR(512) NOT NULL,
    subscription VARCHAR(128) NOT NULL,
    id           BINARY(16)   NOT NULL,
    event        LONGTEXT     NOT NULL,  -- JSON
    owed_at      BIGINT       NOT NULL DEFAULT (TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(3)) DIV 1000),

    KEY distributed_events_owed_store (store, seq),
    -- Owing an event twice, after a crash between owing it and marking it as sent, is owing it once.
    UNIQUE KEY distributed_events_owed_id (store, subscription, id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET utf8mb4
  /*M! COLLATE utf8mb4_nopad_bin */ /*!80017 COLLATE utf8mb4_0900_bin */ COMMENT = 'distributed-events';
