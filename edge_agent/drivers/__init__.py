"""Everything that touches the field: buses, boards, scales, sensors. Knows nothing of reservations."""
