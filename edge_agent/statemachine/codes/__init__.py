"""Codes: chosen, compared, guessed, and not used again for a while after their reservation."""
