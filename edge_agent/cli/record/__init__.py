"""`edge-agent bus record-profile`: frames of a real board, recorded with a technician who watches it."""
