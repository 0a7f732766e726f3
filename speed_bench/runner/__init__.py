"""From prompts to a journal: what is asked of an engine, in which order, and what is kept."""
