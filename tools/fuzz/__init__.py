"""Millions of damaged frames for every codec."""
