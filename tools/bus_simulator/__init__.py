"""The locker's hardware as a process of its own: real frames on pseudo-terminals, a customer's acts over
HTTP."""
