-- The service commands that were requested from afar: which, by whom, and what came of them. `state`: RUNNING, DONE,
-- FAILED; `error`: an rpcStatus as JSON; `reported`: the broker has the outcome. A result is in a file of its own.

CREATE TABLE service_command (
    n            INTEGER PRIMARY KEY AUTOINCREMENT,
    request_id   TEXT NOT NULL UNIQUE,
    command      TEXT NOT NULL,
    key          TEXT NOT NULL,
    actor        TEXT NOT NULL,
    arguments    TEXT NOT NULL,
    body_digest  TEXT NOT NULL,
    received_s   REAL NOT NULL,
    state        TEXT NOT NULL,
    ended_s      REAL,
    error        TEXT,
    content_type TEXT,
    bytes        INTEGER,
    sha256       TEXT,
    reported     INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX service_command_open ON service_command (n) WHERE reported = 0;

-- The oldest schema whose program can still use this file: a new version of the program that does not prove good is
-- replaced by the one before it, on the same journal (docs/decisions/0051-journal-of-two-versions.md).
CREATE TABLE compatible (oldest_schema INTEGER NOT NULL);
INSERT INTO compatible VALUES (8);
