"""A locker without metal: physics, boards that answer real frames, and the wires between.

Ordinary devices as far as anybody on the bus can tell. Nothing here reads a clock or sleeps; the time is
given, so the same code serves a process on pseudo-terminals and a test that runs in virtual time.
"""
