"""The machines' events in order, the projection, reconciliation after gaps, lost histories, twins."""
