"""The daemon inside a parcel locker; `docs/architecture.md` describes the code's structure."""

__version__ = "0.2.0"
