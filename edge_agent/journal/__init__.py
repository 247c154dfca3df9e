"""What the machine must not forget: one SQLite file, one writer."""
