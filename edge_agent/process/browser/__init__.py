"""Runs the kiosk's browser, and restarts it when its page is not shown (docs/decisions/0045)."""
