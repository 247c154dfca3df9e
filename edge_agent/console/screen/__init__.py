"""The kiosk's screen: a page on loopback for the board's full-screen browser (docs/decisions/0042)."""
