"""The examples of the documentation give what they show."""

import doctest
import re
from collections.abc import Iterator
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


def anchors(page: Path) -> set[str]:
    """What links to the headings of a page end in, as on GitHub."""
    headings = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links() -> Iterator[tuple[Path, str]]:
    """Every link of a page to another one, or to a heading of its own."""
    for page in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "metrics").rglob("*.md")):
        prose = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
        for target in re.findall(r"\]\(([^)\s]+)\)", prose):
            if "://" not in target:
                yield page, target


def test_every_link_between_pages_leads_somewhere() -> None:
    broken = []
    for page, target in links():
        path, _, anchor = target.partition("#")
        other = (page.parent / path) if path else page
        if not other.exists() or (anchor and anchor not in anchors(other)):
            broken.append(f"{page.relative_to(ROOT)}: {target}")
    assert broken == []
