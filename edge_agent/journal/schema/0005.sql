-- Whose act an unlock was, where a technician opened the door; empty otherwise.
ALTER TABLE unlock ADD COLUMN actor TEXT NOT NULL DEFAULT '';
