"""The fleet page with a thousand machines: how soon it is drawn, how soon a filter answers."""
