"""Sweeps: many runs that belong together, each in a folder of its own."""
