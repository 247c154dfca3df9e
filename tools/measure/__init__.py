"""Benchmarks: figures of the whole and its parts, each beside its limit from the same run."""
