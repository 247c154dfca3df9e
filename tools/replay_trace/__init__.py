"""Judges a recorded trace again: runs it through the codecs and says what each reply is taken for."""
