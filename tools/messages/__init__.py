"""Finds every text that the commands show in another language, and keeps the message files complete."""
