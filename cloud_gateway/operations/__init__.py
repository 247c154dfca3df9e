"""The pages for operations people."""
