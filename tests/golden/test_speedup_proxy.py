"""The published speed-up proxy: acceptance length and step times of two drafters at three input lengths.

Llama-3.3-70B, high-entropy prompts (arXiv 2604.09557, table 10): what is projected from rounded numbers comes out
again, and what was measured then is near.
"""

import pytest

from speed_bench.prediction import break_even_acceptance_length, speedup

ROWS = {
    ("EAGLE3", "1k"): (2.12, 19.6, 25.9, 1.63, 1.61),
    ("EAGLE3", "2k"): (1.86, 20.4, 27.5, 1.39, 1.38),
    ("EAGLE3", "8k"): (1.17, 25.2, 34.1, 0.85, 0.86),
    ("vanilla", "1k"): (2.47, 19.7, 35.3, 1.37, 1.38),
    ("vanilla", "2k"): (2.49, 20.4, 38.6, 1.31, 1.32),
    ("vanilla", "8k"): (2.60, 25.2, 59.9, 1.09, 1.09),
}
"""Drafter and input length: acceptance length, t_ar and t_sd in ms, actual and projected speed-up."""


@pytest.mark.parametrize("row", ROWS, ids="-".join)
def test_the_published_projection_comes_out_of_the_published_numbers(row: tuple[str, str]) -> None:
    length, t_ar_ms, t_sd_ms, actual, projected = ROWS[row]
    found = speedup(t_ar_ms / 1e3, t_sd_ms / 1e3, length)
    print(f"{' '.join(row)}: {found:.3f}, published {projected}, measured {actual} ({found / actual - 1:+.1%})")
    assert found == pytest.approx(projected, abs=0.01)
    assert found == pytest.approx(actual, rel=0.02)


def test_a_drafter_that_slows_down_is_below_its_break_even_length() -> None:
    for length, t_ar_ms, t_sd_ms, actual, _ in ROWS.values():
        assert (length > break_even_acceptance_length(t_ar_ms, t_sd_ms)) == (actual > 1)
