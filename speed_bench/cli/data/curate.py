"""`speed-bench data curate`."""
