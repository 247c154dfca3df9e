"""Pages in a real browser, and the people in front of them."""
