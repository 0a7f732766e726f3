"""The sources of both splits: where each is published, at which revision, under which licence, and what it feeds."""
