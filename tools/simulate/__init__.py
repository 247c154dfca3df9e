"""The production code with time, bus, network and disk latency replaced, from one seed.

See `docs/decisions/0005-virtual-time.md`.
"""
