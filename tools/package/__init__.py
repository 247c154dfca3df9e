"""Makes the Debian packages of a machine and of a gateway."""
