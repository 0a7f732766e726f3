"""An edition as it may be passed on: text only of rows whose source lets it, placeholder and hash of the others.

Which rows those are, `rights` says. A masked row keeps its other columns, as many turns as it has, and in the manifest
the hashes of its real text, so that a copy with the text in place is verified against the same manifest and has its
`config_sha256`.
"""

from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import orjson

from speed_bench.data.card import card, licence_note, plain
from speed_bench.data.configs import require_whole
from speed_bench.data.editions import config_entries, folder_of, read_config, read_manifest
from speed_bench.data.folders import PARQUET
from speed_bench.data.manifest import verify
from speed_bench.data.rights import may_be_passed_on
from speed_bench.data.schema import PLACEHOLDER
from speed_bench.data.tables import write_rows
from speed_bench.errors import ConfigError, DataError, unknown
from speed_bench.types import Conversation

_OF_EDITION: Final = ("edition", "version", "licence", "redistributable", "source", "tokenizer", "builder", "sources")
_OF_CONFIG: Final = ("about", "num_rows", "num_turns", "num_tokens_o200k", "categories")
_TELLING: Final = 24
"""Characters of a text that are too many to stand somewhere else by chance."""
_OPENING: Final = 120
"""Characters that are looked for; the words around a text, which are ours, are fewer."""


@dataclass(frozen=True, slots=True)
class Share:
    """How many rows of a source in a config are released with their text, and how many without."""

    config: str
    source: str
    """Its id in the manifest; empty where the manifest names none."""
    num_with_text: int
    num_masked: int


@dataclass(frozen=True, slots=True)
class Release:
    """An edition that was written as it may be passed on."""

    edition: str
    version: str
    configs: tuple[str, ...]
    files: Mapping[str, Path]
    """Name in the repository -> where it is now."""
    shares: tuple[Share, ...]

    @property
    def num_masked(self) -> int:
        """Rows without their text, of all configs."""
        return sum(share.num_masked for share in self.shares)


def release(edition: str, configs: Sequence[str], repo_id: str, out: Path) -> Release:
    """Verify an edition, all of it or some configs, and write what may be passed on into the empty folder `out`.

    Raises ConfigError for an edition or config that is not there, DataError for rows that are not those of its manifest
    and for a manifest that holds the text of a row which is masked.
    """
    folder = folder_of(edition)
    manifest = read_manifest(folder)
    parts = [_part(folder, manifest, config, out / config) for config in _chosen(manifest, configs, folder)]
    of_edition: dict[str, Any] = {key: manifest[key] for key in _OF_EDITION if key in manifest}
    _write_pages({**of_edition, "configs": {part.config: part.described for part in parts}}, parts, repo_id, out)
    files = {path.relative_to(out).as_posix(): path for path in sorted(out.rglob("*")) if path.is_file()}
    shares = tuple(share for part in parts for share in part.shares)
    return Release(manifest["edition"], manifest["version"], tuple(part.config for part in parts), files, shares)


@dataclass(frozen=True, slots=True)
class _Part:
    """A config whose rows were written, and what the other files need to know of them."""

    config: str
    described: Mapping[str, Any]
    """For the manifest."""
    shares: tuple[Share, ...]
    hidden: Mapping[str, str]
    """The opening of every text that is masked -> whose it is."""
    columns: frozenset[str]
    """Every text that is written but is no turn."""


def _part(folder: Path, manifest: Mapping[str, Any], config: str, place: Path) -> _Part:
    """Verify the rows of a config and write them, masked where they must be."""
    entries = config_entries(dict(manifest), config, folder)
    rows = read_config(folder, config)
    verify(rows, entries, f"{config} in {folder}")
    require_whole(config, len(rows), f"edition {manifest['edition']}")
    open_ids = {row.question_id for row in rows if may_be_passed_on(row, entries[row.question_id], manifest)}
    place.mkdir()
    write_rows((row if row.question_id in open_ids else masked(row) for row in rows), place / PARQUET)
    closed = (row for row in rows if row.question_id not in open_ids)
    return _Part(
        config,
        _described(manifest["configs"][config], open_ids),
        _shares(config, entries, open_ids),
        {_opening(turn): f"{row.question_id} of {config}" for row in closed for turn in row.turns},
        frozenset(text for row in rows for text in _columns(row)),
    )


def masked(row: Conversation) -> Conversation:
    """The row without its text: a placeholder for every turn."""
    return replace(row, turns=(PLACEHOLDER,) * len(row.turns))


def _chosen(manifest: Mapping[str, Any], configs: Sequence[str], folder: Path) -> list[str]:
    for config in configs:
        if config not in manifest["configs"]:
            raise ConfigError(unknown("config", config, manifest["configs"]) + f" (edition {manifest['edition']})")
    if not manifest["configs"]:
        raise DataError(f"{folder / 'manifest.json'} has no configs, so there is nothing to publish")
    return [name for name in manifest["configs"] if not configs or name in configs]


def _described(described: Mapping[str, Any], open_ids: Container[str]) -> dict[str, Any]:
    """What the released manifest says of a config: what the edition's own says, as far as we know the keys."""
    kept = {key: described[key] for key in _OF_CONFIG if key in described}
    return {**kept, "rows": {name: _entry(entry, name in open_ids) for name, entry in described["rows"].items()}}


def _entry(entry: Mapping[str, Any], with_text: bool) -> dict[str, Any]:
    kept = {key: entry[key] for key in ("turns_sha256", "row_sha256") if key in entry}
    lengths, source = entry.get("num_tokens_o200k"), entry.get("source_id")
    if isinstance(lengths, list) and all(isinstance(each, int) for each in lengths):
        kept["num_tokens_o200k"] = lengths
    if isinstance(source, str):
        kept["source_id"] = source
    return kept if with_text else {**kept, "masked": True}


def _shares(config: str, entries: Mapping[str, Mapping[str, Any]], open_ids: set[str]) -> tuple[Share, ...]:
    with_text: Counter[str] = Counter()
    without: Counter[str] = Counter()
    for name, entry in entries.items():
        (with_text if name in open_ids else without)[plain(entry.get("source_id"))] += 1
    return tuple(Share(config, each, with_text[each], without[each]) for each in sorted({*with_text, *without}))


def _write_pages(manifest: Mapping[str, Any], parts: Sequence[_Part], repo_id: str, out: Path) -> None:
    """Everything but the rows, once no text that is masked is quoted in any of it."""
    pages = {
        "README.md": card(manifest, repo_id),
        "LICENSE.md": licence_note(manifest, repo_id),
        "eval.yaml": _evaluation(manifest),
    }
    rows = [entry for each in manifest["configs"].values() for entry in each["rows"].values()]
    free = {**manifest, "configs": {name: {**each, "rows": {}} for name, each in manifest["configs"].items()}}
    columns = frozenset().union(*(part.columns for part in parts))
    texts = {*pages.values(), *columns, *_texts(free), *(entry.get("source_id", "") for entry in rows)}
    said = "\0".join(map(_squeezed, texts))
    for opening, row in ((opening, row) for part in parts for opening, row in part.hidden.items()):
        if len(opening) >= _TELLING and opening in said:
            raise DataError(
                f"the text of row {row} may not be passed on, but the manifest or a column of a row quotes it; take "
                "the quotation out of `about`, `builder`, `sources` or that column"
            )
    for name, page in pages.items():
        (out / name).write_text(page, "utf-8")
    (out / "manifest.json").write_bytes(orjson.dumps(manifest, option=orjson.OPT_INDENT_2) + b"\n")


def _evaluation(manifest: Mapping[str, Any]) -> str:
    """What makes the Hub list a dataset as a benchmark: one task per config."""
    import yaml

    described = {
        "name": plain(f"SPEED-Bench, edition {manifest['edition']} {manifest['version']}"),
        "description": "Speculative decoding: acceptance of drafts by category, and throughput under load.",
        "evaluation_framework": "speed-bench",
        "tasks": [{"id": name, "config": name, "split": "test"} for name in manifest["configs"]],
    }
    return yaml.safe_dump(described, sort_keys=False, allow_unicode=True, width=4096)


def _columns(row: Conversation) -> Iterator[str]:
    """The texts of a row that are not its turns."""
    for text in (row.category, row.sub_category, row.source, row.src_id, row.difficulty):
        if text is not None:
            yield text


def _texts(value: Any) -> Iterator[str]:
    """Every text anywhere in it, keys too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield str(key)
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)


def _opening(turn: str) -> str:
    return _squeezed(turn)[:_OPENING]


def _squeezed(text: str) -> str:
    return " ".join(text.split())
