"""Judges a recorded trace again: runs it through the codecs and prints how each reply is classified."""
