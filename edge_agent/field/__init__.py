"""Reads and drives the field: doors, scales, temperatures, climate outputs, the effects of the core."""
