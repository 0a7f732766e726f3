"""Ways to draft: one name each, the same for every engine.

What an engine calls them, and whether it has them, stands in its dialect.
"""

from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True, slots=True)
class Algorithm:
    """A way to draft."""

    draft: Literal["none", "optional", "required"]
    """Whether it takes a draft model, `--draft`."""
    draft_length: int | None
    """Most tokens drafted per step unless told otherwise; None where nothing is drafted."""
    always_drafts: bool
    """Whether every decode step has a proposal, as long as the context has room for it. A lookup that
    finds nothing proposes nothing; a model always proposes something."""


ALGORITHMS: Final[dict[str, Algorithm]] = {
    "none": Algorithm("none", None, always_drafts=False),
    "ngram": Algorithm("none", 8, always_drafts=False),
    "suffix": Algorithm("none", 8, always_drafts=False),
    "draft": Algorithm("required", 3, always_drafts=True),
    "eagle": Algorithm("required", 3, always_drafts=True),
    "eagle3": Algorithm("required", 3, always_drafts=True),
    "mtp": Algorithm("optional", 3, always_drafts=True),
    "medusa": Algorithm("required", 3, always_drafts=True),
    "dflash": Algorithm("required", 3, always_drafts=True),
    "pard": Algorithm("required", 3, always_drafts=True),
}
"""By name: nothing, lookup in the text so far, in a suffix tree, a small model, EAGLE heads, the model's own
multi-token prediction, Medusa heads, block diffusion, a parallel draft model."""


def always_drafts(algorithm: str) -> bool:
    """Whether every decode step of an algorithm has a proposal; False for one that is not known."""
    return algorithm in ALGORITHMS and ALGORITHMS[algorithm].always_drafts
