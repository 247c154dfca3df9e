"""The process around the daemon: its log, its supervisor, its event loop, the board that it runs on."""
