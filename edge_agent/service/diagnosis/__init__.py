"""The self-test: what is looked at, what is found, and what a technician is told to do about it."""
