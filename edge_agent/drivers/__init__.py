"""Drivers of the field: buses, boards, scales, sensors. Know nothing of reservations."""
