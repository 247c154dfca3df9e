"""Locks and door contacts: unlock attempts, their outcomes, and what a contact may be believed for."""
