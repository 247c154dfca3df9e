"""The machine's durable memory: one SQLite file, one writer."""
