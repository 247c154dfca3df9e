"""The page of device profiles, made from the profiles."""
