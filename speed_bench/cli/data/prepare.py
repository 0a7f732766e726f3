"""`speed-bench data prepare`."""
