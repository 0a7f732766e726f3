"""The metrics on plain lists: what the `evaluate` modules of the same names compute.

`acceptance`, `throughput` and `speedup` check their input value by value (`inputs`, `strict`), hand it
to the functions that score a run, and return plain dicts. `run_folder` gives their input from a run.
"""
