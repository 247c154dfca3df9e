"""The field as it is sensed and driven: doors, scales, temperatures, climate outputs, the effects of the
core."""
