"""`edge-agent watch`: the live locker wall in the terminal."""
