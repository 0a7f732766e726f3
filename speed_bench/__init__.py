"""SPEED-Bench."""
