"""Draws `edge-agent watch` for the demo locker in the middle of a simulated day."""
