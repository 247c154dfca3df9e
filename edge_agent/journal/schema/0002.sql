-- Events stay for a while after the broker has acknowledged them; the ledger says why a door was opened.

ALTER TABLE outbox ADD COLUMN acknowledged INTEGER NOT NULL DEFAULT 0;

-- The words of who asked; of an outcome, whether a pulse was given (NULL: nobody knows); and the sequence of the
-- last event before, so that both can be told in one order.
ALTER TABLE unlock ADD COLUMN reason TEXT NOT NULL DEFAULT '';
ALTER TABLE unlock ADD COLUMN pulsed INTEGER;
ALTER TABLE unlock ADD COLUMN after_sequence INTEGER NOT NULL DEFAULT 0;

-- Pulses now say of which boot they are.
DELETE FROM entity WHERE kind = 'pulses_ns';

-- reservation.live: 0 over, 1 holds a cell, 2 over and the last that had its cell.
CREATE INDEX reservation_former ON reservation (live) WHERE live = 2;
