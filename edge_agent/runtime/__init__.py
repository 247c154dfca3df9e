"""Connects the pure core with time, disk and field: the single-writer loop and what it drives."""
