"""Writes the contracts with the outside into the docs, from the models that the code uses."""
