"""The production code with time, bus, network and disk latency replaced, from one seed.

`docs/decisions/0005-virtual-time.md` says how and why.
"""
