"""Progress of work on data: one line per stage where nobody watches, bars on a terminal."""

import io

import pytest
from rich.console import Console

from speed_bench.data.sources.web import Progress
from speed_bench.report import building
from speed_bench.report.building import Stages


def test_a_stage_that_ends_leaves_a_line() -> None:
    page = io.StringIO()
    with Stages(Console(file=page, width=80)) as stages:
        stages("rows", 0, 2000)
        stages("rows", 2000, 2000)
        stages("rows", 2000, 2000)
    assert page.getvalue() == "rows: 2,000 in 0.0 s\n"


def test_long_work_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "LINE_EVERY_S", 0.0)
    page = io.StringIO()
    with Stages(Console(file=page, width=80)) as stages:
        stages("rows", 5, 20)
        stages.fetched(Progress("file.jsonl", 4096, None, "bytes"))
    assert page.getvalue() == "rows: 5 of 20 after 0 s\nfile.jsonl: 4,096 after 0 s\n"


def test_a_terminal_shows_bars_and_keeps_the_lines() -> None:
    page = io.StringIO()
    with Stages(Console(file=page, width=80, force_terminal=True)) as stages:
        stages("rows", 1, 20)
        stages("rows", 20, 20)
    assert "rows: 20 in 0.0 s" in page.getvalue()


def test_an_error_leaves_no_bar_behind() -> None:
    page = io.StringIO()
    stages = Stages(Console(file=page, width=80, force_terminal=True))
    with pytest.raises(ValueError, match="gone"), stages:
        raise ValueError("gone")
    assert "\x1b[?25h" in page.getvalue(), "the cursor is there again"
