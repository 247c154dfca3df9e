"""A simulated locker: physics, boards that answer real frames, and the wires between.

On the bus these behave like ordinary devices. Nothing here reads a clock or sleeps; the caller gives the
time, so the same code serves a process on pseudo-terminals and a test that runs in virtual time.
"""
