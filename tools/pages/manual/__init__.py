"""Makes the manual page of `edge-agent` from the help of its commands."""
