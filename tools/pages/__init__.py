"""The pages and pictures that are made from code and tests (`make docs`)."""
