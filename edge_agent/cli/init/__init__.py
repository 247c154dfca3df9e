"""`edge-agent init`: an interview at a new machine, whose boards it finds by itself."""
