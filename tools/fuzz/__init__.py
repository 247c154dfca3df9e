"""Damaged frames, by the million, into every codec."""
