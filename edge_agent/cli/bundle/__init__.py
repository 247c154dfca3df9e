"""`edge-agent bundle`: all that support needs to know, and nothing that opens a door."""
