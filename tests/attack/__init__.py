"""Attackers: what each tries at the doors of a machine, and what it gets."""
