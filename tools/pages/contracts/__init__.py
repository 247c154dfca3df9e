"""Writes the external contracts into the docs, from the models that the code uses."""
