"""Choose rows that resemble each other least, under quotas and a cap on any pair, with a certificate.

    similarities   the pairwise similarities as integers
    pool           candidates by stratum, in an order of their own
    search         growth, swaps, restarts
    relaxation     the descent behind the certificate
    bound          the certificate and its proof
    picks          what comes out: `select`, `published`, `objective`

`docs/data/selection.md` has the method and what was measured.
"""

from speed_bench.data.selection.picks import Pair, Selection, objective, published, select

__all__ = ["Pair", "Selection", "objective", "published", "select"]
