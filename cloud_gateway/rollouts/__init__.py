"""Releases: which machine gets which version, and when a release is stopped."""
