"""Makes the manual page of `edge-agent` out of the help of its commands."""
