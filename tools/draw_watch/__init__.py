"""Draws what `edge-agent watch` shows of the demo locker in the middle of a simulated day."""
