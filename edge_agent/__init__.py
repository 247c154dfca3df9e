"""The daemon inside a parcel locker; `docs/architecture.md` shows the way through the code."""

__version__ = "0.1.0"
