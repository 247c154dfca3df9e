"""A fleet that is updated: the real updater logic on simulated machines, power cuts, a poisoned release."""
