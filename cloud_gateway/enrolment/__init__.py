"""Enrolment of machines: claims, certificates, renewals (docs/decisions/0056-enrolment.md)."""
