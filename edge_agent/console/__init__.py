"""The way in for people and programs at the machine: HTTP on a Unix socket."""
