"""Prompts: rows of the eight published columns, the editions that hold them, and their manifests."""
