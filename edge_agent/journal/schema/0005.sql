-- Whose act an unlock was, where a technician opened the door; empty otherwise.
ALTER TABLE unlock ADD COLUMN actor TEXT NOT NULL DEFAULT '';

-- On which wires the lock and the contact of each cell were at the last start: another configuration must not open
-- another door for a reservation that lives.
CREATE TABLE wires (cell TEXT PRIMARY KEY, place TEXT NOT NULL) WITHOUT ROWID;
