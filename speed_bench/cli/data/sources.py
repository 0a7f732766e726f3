"""`speed-bench data sources`."""
