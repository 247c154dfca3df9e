-- State, history, ledger, outbox and inbox of one machine.

-- What the state machine holds now: cells, tickets with a journaled pulse, alarms, resting codes, pulses.
CREATE TABLE entity (
    kind TEXT NOT NULL,
    key  TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (kind, key)
) WITHOUT ROWID;

-- Every reservation ever made; live = 1 while it holds a cell.
CREATE TABLE reservation (
    reservation_id TEXT PRIMARY KEY,
    live           INTEGER NOT NULL,
    status         TEXT NOT NULL,
    body           TEXT NOT NULL
);
CREATE INDEX reservation_live ON reservation (live) WHERE live = 1;

-- The ledger of unlocks: a row for each intent (outcome NULL) and for each outcome.
CREATE TABLE unlock (
    n              INTEGER PRIMARY KEY AUTOINCREMENT,
    unlock_id      TEXT NOT NULL,
    attempt        INTEGER NOT NULL,
    cell           TEXT NOT NULL,
    reservation_id TEXT NOT NULL,
    purpose        TEXT NOT NULL,
    source         TEXT NOT NULL,
    request_id     TEXT,
    boottime_ns    INTEGER NOT NULL,
    wall_s         REAL NOT NULL,
    outcome        TEXT
);

-- Events not yet acknowledged by the broker, oldest first. AUTOINCREMENT keeps the last sequence for ever.
CREATE TABLE outbox (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    body     TEXT NOT NULL
);

-- Requests seen; reply NULL while the outcome is open.
CREATE TABLE inbox (
    request_id     TEXT PRIMARY KEY,
    received_s     REAL NOT NULL,
    response_topic TEXT,
    correlation    BLOB,
    reply          TEXT
) WITHOUT ROWID;
CREATE INDEX inbox_received ON inbox (received_s);
