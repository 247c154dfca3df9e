"""Makes docs/behaviour.md: each sentence of the behaviour page with the tests that show it."""
