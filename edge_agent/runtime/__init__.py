"""Where the pure core meets time, disk and field: the single-writer loop and what it drives."""
