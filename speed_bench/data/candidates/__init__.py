"""Candidates: what the records of the sources become before a selection picks 80 of each category.

    library ──pools()──► Pools ──distinct()──► Pools ──► quotas, embeddings, selection

A candidate is a row of the `qualitative` config. Rendering one is a pure function of the record and its place in the
file: neither random state nor the other candidates have a part in it. The requests around the texts are our own.
"""

from speed_bench.data.candidates.candidate import Candidate
from speed_bench.data.candidates.pools import RECIPES, Pools, distinct, pools

__all__ = ["RECIPES", "Candidate", "Pools", "distinct", "pools"]
