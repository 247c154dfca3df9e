"""How a machine gets its certificate, and a new one before it ends (docs/decisions/0056-enrolment.md)."""
