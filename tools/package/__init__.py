"""Makes the Debian package of the daemon and its commands."""
