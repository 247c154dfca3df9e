"""The pure core: takes an input and the time, returns the new state, effects, facts and answers.

It does no I/O, reads no clock and draws no random number; `locker.step` is the only entry point.
"""
