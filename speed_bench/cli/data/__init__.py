"""`speed-bench data`: the verbs that make, check and exchange prompts, a module each."""

from speed_bench.cli.data import curate, exchange, prepare, sources
from speed_bench.cli.data.group import data

__all__ = ["curate", "data", "exchange", "prepare", "sources"]
