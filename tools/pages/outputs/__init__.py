"""Draws the outputs of five commands at the demo locker, in three languages."""
