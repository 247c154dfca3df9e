-- What this journal is bound to, beside the wires: the machine whose it is, the label of each cell by its cell_id, and
-- the identity of the port of each bus. A journal of before names its machine in its last event.

CREATE TABLE owner (machine_id TEXT NOT NULL);
INSERT INTO owner
    SELECT json_extract(body, '$.machine_id') FROM outbox
    WHERE json_extract(body, '$.machine_id') IS NOT NULL ORDER BY sequence DESC LIMIT 1;

CREATE TABLE label (cell_id TEXT PRIMARY KEY, label TEXT NOT NULL) WITHOUT ROWID;

CREATE TABLE port (bus TEXT PRIMARY KEY, identity TEXT NOT NULL) WITHOUT ROWID;
