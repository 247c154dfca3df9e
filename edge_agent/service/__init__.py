"""Functions for technicians on the running machine: bus scans and checks, recognition of boards, reports, the
self-test."""
