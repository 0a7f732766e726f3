"""`speed-bench data import`, `export` and `verify`."""
