"""The daemon inside a parcel locker; `docs/architecture.md` describes the code's structure."""

__version__ = "0.1.0"
