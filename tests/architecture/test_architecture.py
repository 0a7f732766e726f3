"""The shape of the package, held by tests. `make check` holds the layers themselves."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import speed_bench
from speed_bench.cli import cli
from speed_bench.config import EMBEDDED
from speed_bench.engines import ENGINES, dialect

ROOT = Path(__file__).parent.parent.parent
HEAVY = {"datasets", "gguf", "huggingface_hub", "numpy", "pandas", "pydantic", "rich", "scipy", "tokenizers"} | {
    "torch",
    "transformers",
    "xllamacpp",
}


def imported_by(code: str) -> set[str]:
    """The top-level packages that are loaded after running some code in a new interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*{{name.split('.')[0] for name in sys.modules}})"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    "code",
    [
        "import speed_bench",
        "from speed_bench.cli import cli; cli(['run', '--help'], standalone_mode=False)",
        "from speed_bench.engines import ENGINES; list(ENGINES)",
    ],
)
def test_names_help_and_the_list_of_engines_load_nothing_heavy(code: str) -> None:
    assert imported_by(code) & HEAVY == set()


def test_measuring_loads_no_model_library() -> None:
    assert (
        imported_by("import speed_bench.runner.benchmark") & {"torch", "transformers", "xllamacpp", "pandas"} == set()
    )


def test_the_public_names_are_these() -> None:
    assert speed_bench.__all__ == sorted(speed_bench.__all__)
    assert all(hasattr(speed_bench, name) for name in speed_bench.__all__)


@pytest.mark.parametrize("verb", sorted(cli.commands))
def test_every_verb_has_its_page(verb: str) -> None:
    assert f"speed-bench {verb}" in (ROOT / "docs" / f"{verb}.md").read_text("utf-8")


@pytest.mark.parametrize("engine", sorted(ENGINES))
def test_every_engine_has_its_page_and_its_recording(engine: str) -> None:
    assert (ROOT / "docs" / "engines" / f"{engine}.md").exists()
    if dialect(engine).ALGORITHMS["none"].checked != "simulated":  # what it sends is another engine's
        assert any((ROOT / "tests" / "recordings" / engine).glob("*.sse"))


def test_every_number_of_the_scores_has_its_definition() -> None:
    from speed_bench.scores import ClientScores, Comparison, Goodput, GroupScores, Serving, SloScores, Steady

    text = (ROOT / "docs" / "metrics.md").read_text("utf-8")
    models = (GroupScores, Comparison, Serving, Steady, Goodput, SloScores, ClientScores)
    names = {name for model in models for name in model.model_fields}
    assert {name for name in names if not name.startswith("num_") and f"`{name}`" not in text} == set()


@pytest.mark.parametrize("engine", [name for name in ENGINES if name != "simulator"])
def test_a_dialect_stays_thin(engine: str) -> None:
    lines = (ROOT / f"{ENGINES[engine].replace('.', '/')}.py").read_text("utf-8").splitlines()
    assert len(lines) <= 200, "it times nothing, counts nothing and knows no data"


def test_engines_exclude_each_other() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    [together] = project["tool"]["uv"]["conflicts"]
    large = {name for name in ENGINES if name not in EMBEDDED}
    assert {each["extra"] for each in together} == large <= set(project["project"]["optional-dependencies"])


def test_modules_stay_small() -> None:
    sizes = {path: len(path.read_text("utf-8").splitlines()) for path in (ROOT / "speed_bench").rglob("*.py")}
    assert {path.name: size for path, size in sizes.items() if size > 370} == {}
