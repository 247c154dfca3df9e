-- How far the broker has taken the events, as one number: no event's row is written again when it is acknowledged.
-- (outbox.acknowledged stays, unused: to take it away would write the whole table anew.)

CREATE TABLE sent (through INTEGER NOT NULL);
INSERT INTO sent SELECT coalesce(
    (SELECT min(sequence) - 1 FROM outbox WHERE acknowledged = 0),
    (SELECT seq FROM sqlite_sequence WHERE name = 'outbox'),
    0
);

-- Which journal this is: made with it, and told with every event, for another journal counts anew.
CREATE TABLE journal (journal_id TEXT NOT NULL);
INSERT INTO journal VALUES (lower(hex(randomblob(16))));

-- What exactly was asked, so that the same bytes get the same no; and whether received_s was known to be right.
ALTER TABLE inbox ADD COLUMN body_digest TEXT;
ALTER TABLE inbox ADD COLUMN synced INTEGER NOT NULL DEFAULT 1;
