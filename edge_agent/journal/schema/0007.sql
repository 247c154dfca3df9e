-- The configurations that came into use, for technicians; never published. `how`: init, start, reload, revert.
-- `origin`: when `edge-agent init` wrote the file, if it did. `changes`: the changed keys of a reload, as JSON.

CREATE TABLE configuration (
    n INTEGER PRIMARY KEY,
    wall_s REAL NOT NULL,
    after_sequence INTEGER NOT NULL,
    how TEXT NOT NULL,
    actor TEXT NOT NULL,
    origin TEXT NOT NULL,
    digest TEXT NOT NULL,
    changes TEXT NOT NULL
);
