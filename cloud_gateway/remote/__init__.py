"""Remote work at machines: service commands and their results, wanted configurations, releases."""
