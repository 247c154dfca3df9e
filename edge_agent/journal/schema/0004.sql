-- How far the broker has taken the events, as one number: no event's row is written again when it is acknowledged.

CREATE TABLE sent (through INTEGER NOT NULL);
INSERT INTO sent SELECT coalesce(
    (SELECT min(sequence) - 1 FROM outbox WHERE acknowledged = 0),
    (SELECT seq FROM sqlite_sequence WHERE name = 'outbox'),
    0
);
ALTER TABLE outbox DROP COLUMN acknowledged;

-- Which journal this is: made with it, and told with every event, for another journal counts anew.
CREATE TABLE journal (journal_id TEXT NOT NULL);
INSERT INTO journal VALUES (lower(hex(randomblob(16))));
