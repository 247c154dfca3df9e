"""The locker wall: a live page of the cabinets, for a bench. It is served only if the configuration has a
`[wall]`."""
