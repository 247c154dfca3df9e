"""What machines report: events in their order, the projection, reconciliation after gaps, lost
histories, twins."""
