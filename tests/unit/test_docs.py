"""The examples of the documentation give what they show."""

import doctest
from pathlib import Path

import pytest
from click.testing import CliRunner

from speed_bench.cli import cli

ROOT = Path(__file__).parent.parent.parent
PAGES = [page for page in sorted((ROOT / "docs").rglob("*.md")) if ">>>" in page.read_text("utf-8")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_examples_of_a_page_give_what_they_show(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    done = doctest.testfile(str(page), module_relative=False, encoding="utf-8")
    assert done.attempted > 0
    assert done.failed == 0


def test_the_table_of_engines_is_what_the_command_prints() -> None:
    page = (ROOT / "docs" / "engines.md").read_text("utf-8")
    shown = page.split("<!-- speed-bench engines --markdown -->\n")[1].split("<!-- end -->")[0]
    assert shown.strip() == CliRunner().invoke(cli, ["engines", "--markdown"]).output.strip()
