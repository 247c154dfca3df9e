"""The self-test: what it checks, what it finds, and what it asks a technician to do."""
