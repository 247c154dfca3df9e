"""The updater of a parcel locker: changes the version of the daemon, and takes it back if it does not prove
good.

It is a program of its own, with a unit of its own, and imports nothing but the standard library: it has to
work when the daemon does not (docs/decisions/0053-updater.md).
"""
