"""Masked rows in, the edition `official` out: all rows of a config, or none."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from speed_bench.data import folders
from speed_bench.data.curated import source_facts
from speed_bench.data.official import builder_file, rows
from speed_bench.data.official.partial import Partial
from speed_bench.data.official.recipe import HLE, Recipe
from speed_bench.data.official.records import Records
from speed_bench.data.official.resolvers import KINDS, Kind, kind_of, shows_whole_pair
from speed_bench.data.official.rows import Published, PublishedConfig
from speed_bench.data.progress import Progress
from speed_bench.data.sources import SOURCES
from speed_bench.data.sources.library import Library
from speed_bench.errors import DataError
from speed_bench.types import Conversation

EDITION: Final = "official"
LICENCE: Final = "NVIDIA Evaluation Dataset License"
NOTICE: Final = (
    f"the rows of {rows.REPO} are under the {LICENCE}, which does not let resolved text be passed on; what is fetched "
    "from the sources is under their own licences (speed-bench data sources)"
)
_SHOWN: Final = 5
_MARKS: Final = {
    **{kind.mark: kind.source for kind in KINDS},
    **{source.repo: source.id for source in SOURCES.values()},
    "bigcode/humanevalpack": "humanevalpack",
    "gutenberg.org": "gutenberg",
    "repobench_python": "repobench",
    "repobench_java": "repobench",
}
"""What a row's address has in it -> id of the source."""


@dataclass(frozen=True, slots=True)
class Builder:
    """The official builder that is followed."""

    prompts: builder_file.Prompts
    facts: Mapping[str, Any]
    """For the manifest."""

    @classmethod
    def of(cls, content: bytes) -> "Builder":
        """The builder of a file's content."""
        facts = {
            "name": "speed-bench data prepare",
            "version": metadata.version("speed-bench"),
            "followed": "Model-Optimizer",
            "repository": builder_file.REPOSITORY,
            "commit": builder_file.COMMIT,
            "file": builder_file.PATH,
            "file_sha256": hashlib.sha256(content).hexdigest(),
        }
        return cls(builder_file.prompts(content), facts)


@dataclass(frozen=True, slots=True)
class Resolved:
    """All rows of a config with their prompts."""

    rows: tuple[Conversation, ...]
    about: Mapping[str, Any]
    """What there is to know of them, for manifest and card."""


def num_tokens_of(config: str) -> int | None:
    """The length of a config's prompts, thousands being 1000; None where it sets none.

    >>> num_tokens_of("throughput_16k"), num_tokens_of("qualitative")
    (16000, None)
    """
    bucket = config.removeprefix("throughput_").removesuffix("k")
    return 1000 * int(bucket) if bucket != config and bucket.isdecimal() else None


def check(published: Iterable[PublishedConfig], library: Library) -> None:
    """Before any work: every masked row is of a known kind, and every source of one is open to us and there.

    Raises DataError with the row's id, or with how to get access.
    """
    first: dict[str, str] = {}
    for config in published:
        for row in config.rows:
            if row.masked:
                first.setdefault(_kind(row, config.name).source, row.question_id)
    library.check_access(first)
    for name, question_id in first.items():
        known = SOURCES[name]
        if not library.files(known.folder):
            where = known.access or f"it is published at {known.url}"
            raise DataError(f"row {question_id} needs {known.name}, of which nothing is here: {where}")


def resolve(
    config: PublishedConfig, builder: Builder, records: Records, partial: Partial, progress: Progress
) -> Resolved:
    """Every row with its prompts. What could be resolved is kept in `partial` whatever else happens.

    Raises DataError if any row could not: with the id and the reason of the first one, and how many more there are.
    """
    recipe = Recipe(builder.prompts, records, num_tokens_of(config.name))
    found: list[Conversation] = []
    problems: list[tuple[str, str]] = []
    for number, row in enumerate(config.rows, 1):
        try:
            found.append(row.resolved(_turns(row, recipe, partial)))
        except (_Unresolved, ValueError) as error:
            problems.append((row.question_id, str(error)))
        progress(f"resolve {config.name}", number, len(config.rows))
    if problems:
        raise DataError(_said(config.name, problems, partial.path))
    return Resolved(tuple(found), _about(config, found))


def write(
    out: Path, version: str, config: str, resolved: Resolved, builder: Builder, library: Library
) -> dict[str, Any]:
    """Put a resolved config into the edition's folder, and give the manifest.

    None of its text may be passed on, not even that of sources whose own licence would let it: the rows are NVIDIA's.
    """
    used = sorted({source for row in resolved.rows if (source := source_of(row)) is not None})
    facts = folders.EditionFacts(
        edition=EDITION,
        version=version,
        licence=LICENCE,
        redistributable=False,
        source=f"{rows.REPO} at {rows.REVISIONS[version]}, masked prompts fetched from their sources",
        builder=builder.facts,
        sources={name: {**source_facts(name, library), "redistributable": False} for name in used},
    )
    return folders.write_config(out, facts, config, resolved.rows, source_of=source_of, about=resolved.about)


def source_of(row: Conversation) -> str | None:
    """The id of the source that a published row is from, by its address; None where it is none of ours."""
    return next((source for mark, source in _MARKS.items() if mark in row.source), None)


def partial_path(out: Path, config: str, version: str) -> Path:
    """Where the resolved rows of a config wait: beside the edition's folder, never in it."""
    place = out.absolute()
    return place.with_name(f".{place.name}-{config}-{version}.resolved.jsonl")


class _Unresolved(Exception):
    """Why a row has no prompt; what is wrong with the disk is not of this kind."""


def _turns(row: Published, recipe: Recipe, partial: Partial) -> Sequence[str]:
    if not row.masked:
        return row.turns
    try:
        kind = kind_of(row)
        if (kept := partial.get(row)) is not None and recipe.records.same(kind.source, kept[0]):
            return kept[1]
        recipe.records.forget()
        turns = kind.resolve(row, recipe)
        files = recipe.records.hashes(kind.source)
    except DataError as error:
        raise _Unresolved(str(error)) from error
    if not (kind.source == HLE and recipe.by_length):  # what is drawn for a row depends on the rows before it
        partial.keep(row, files, turns)
    return turns


def _kind(row: Published, config: str) -> Kind:
    try:
        return kind_of(row)
    except DataError as error:
        raise DataError(f"row {row.question_id} of {config}: {error}") from error


def _said(config: str, problems: Sequence[tuple[str, str]], kept: Path) -> str:
    (first, reason), others = problems[0], [name for name, _ in problems[1:]]
    more = f"; nor can {len(others)} more: {', '.join(others[:_SHOWN])}" if others else ""
    more += ", …" if len(others) > _SHOWN else ""
    return (
        f"row {first} of {config} cannot be resolved: {reason}{more}; nothing was written, and the rows that could be "
        f"are kept in {kept}"
    )


def _about(config: PublishedConfig, resolved: Sequence[Conversation]) -> dict[str, Any]:
    """How many rows were masked, from where; and what is odd in the published rows."""
    masked = [(row, kind_of(row).source) for row in config.rows if row.masked]
    about: dict[str, Any] = {
        "published_files": dict(config.files),
        "num_placeholders": len(masked),
        "fetched_from": dict(sorted(Counter(source for _, source in masked).items())),
    }
    translations = [row for row, source in masked if source == "opus100"]
    if translations:
        shown = [row.question_id for row in translations if shows_whole_pair(row)]
        about["reference_translation_in_prompt"] = shown or "in none of the rows of OPUS-100"
    pairs = zip(config.rows, resolved, strict=True)
    if corrected := [made.question_id for row, made in pairs if row.multiturn != made.multiturn]:
        about["multiturn_set_from_turns"] = corrected
    return about
