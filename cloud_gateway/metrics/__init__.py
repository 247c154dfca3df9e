"""`/metrics`: what the gateway counts and what stands in its database, on a listener of its own."""
