-- What the cells of reservations with climate went through: each temperature that was told, oldest first.

-- temperature_c NULL: the sensor was lost. need: cold or hot; limit_c bounds from above or below accordingly.
-- synced: whether wall_s (Unix time) was known to be right.
CREATE TABLE temperature (
    n              INTEGER PRIMARY KEY AUTOINCREMENT,
    reservation_id TEXT NOT NULL,
    wall_s         REAL NOT NULL,
    synced         INTEGER NOT NULL,
    temperature_c  REAL,
    setpoint_c     REAL NOT NULL,
    limit_c        REAL NOT NULL,
    need           TEXT NOT NULL,
    door           TEXT NOT NULL,
    output         TEXT NOT NULL
);
CREATE INDEX temperature_reservation ON temperature (reservation_id);
