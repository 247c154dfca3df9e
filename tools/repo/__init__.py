"""A signed apt repository of the packages in `dist/`."""
