"""How many small faults put into the pure core its tests notice, and a page about the rest."""
