"""Real files of the sources and the ranks of o200k_base, where they are beside the checkout; else tests are skipped."""

from pathlib import Path

import pytest

SHARED = Path(__file__).parent.parent.parent / "shared"
MIRROR = SHARED / "data"
RANKS = SHARED / "tiktoken"

needs_mirror = pytest.mark.skipif(not (MIRROR / "MANIFEST.json").exists(), reason="no mirror of the sources here")
needs_o200k = pytest.mark.skipif(not RANKS.is_dir(), reason="no ranks of o200k_base here")
