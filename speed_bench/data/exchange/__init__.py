"""Prompts from and to the files of other tools, and any copy of an edition against its manifest."""
