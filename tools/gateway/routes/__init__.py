"""The gateway's HTTP routes, by subject."""
