"""The interface for people and programs at the machine: HTTP on a Unix socket."""
