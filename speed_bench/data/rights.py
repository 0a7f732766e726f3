"""Whose text may be passed on: by what a manifest says, and by what we know of the sources whatever it says.

It fails closed: where the right to pass a row on is not stated, or is stated by one and denied by another, there is
none.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final
from urllib.parse import unquote

from speed_bench.data.official.rows import REPO as OFFICIAL
from speed_bench.data.sources import SOURCES, File, HubDataset, Source
from speed_bench.types import Conversation

BY_ROW: Final = "curated"
"""The edition whose rows are each under the licence of their source, whether or not the whole may be passed on.
An imported one has only the name."""
IMPORT: Final = "speed-bench data import"
"""The program whose editions are under what their user says, but for rows of a source of ours."""


def may_be_passed_on(row: Conversation, entry: Mapping[str, Any], manifest: Mapping[str, Any]) -> bool:
    """Whether the text of a row may be, by its `entry` in a manifest and by all else that the manifest says.

    The row's source must be redistributable by the manifest; so must the edition, unless its rows are licensed one by
    one. A row without a source is covered by an edition that names no sources at all, or that was imported. None of
    that helps a row of the official edition, or one that names a source of which we know that it may not be passed on.
    """
    builder, sources = manifest.get("builder"), manifest.get("sources")
    facts = builder if isinstance(builder, Mapping) else {}
    if manifest["edition"] == "official" or "followed" in facts:
        return False
    whole, imported = manifest.get("redistributable") is True, facts.get("name") == IMPORT
    source = entry.get("source_id")
    said = sources.get(source) if isinstance(sources, Mapping) and isinstance(source, str) else None
    told = said if isinstance(said, Mapping) else {}
    if source is None:
        stated = whole and (not sources or imported)
    else:
        stated = told.get("redistributable") is True and (whole or (manifest["edition"] == BY_ROW and not imported))
    names = (row.source, source, told.get("name"), told.get("url"))
    return stated and not any(isinstance(each, str) and closed_source(each) for each in names)


@lru_cache(maxsize=1024)
def closed_source(text: str) -> str | None:
    """The name of the source that a text names, where it is one that may not be passed on.

    It is named by its id, name, repository or address, in whatever case and with whatever between the letters, or by a
    text that is the name of one of its files and nothing else. The published rows are such a source too.

    >>> closed_source("CAIS_HLE, second revision")
    "Humanity's Last Exam"
    >>> closed_source("hurdles of athletes") is None
    True
    """
    plain = _plain(text)
    return _FILES.get(plain.strip()) or next((name for name, pattern in _NAMED.items() if pattern.search(plain)), None)


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", unquote(text)).casefold()


def _names(source: Source) -> Iterator[str]:
    """What a source is called, here and by its publisher. Addresses that hold the repository need no mention."""
    repo, _, _ = source.repo.partition("{")  # `owner/name_{python,java}` stands for two
    yield from (source.id, source.name, source.folder, repo, repo.rpartition("/")[2])
    files = () if isinstance(source.origin, HubDataset) else source.origin
    for address in (source.url, *(file.url for file in files if isinstance(file, File))):
        yield address.partition("://")[2]


def _pattern(*names: str) -> re.Pattern[str]:
    """Finds any of the names between other words, by their letters and digits alone."""
    spelled = (r"[\W_]*".join(re.escape(each) for each in _plain(name) if each.isalnum()) for name in names)
    return re.compile(rf"(?<![^\W_])(?:{'|'.join(spelled)})(?![^\W_])")


_CLOSED: Final = tuple(each for each in SOURCES.values() if not each.redistributable)
_NAMED: Final = {**{each.name: _pattern(*_names(each)) for each in _CLOSED}, OFFICIAL: _pattern(OFFICIAL)}
_FILES: Final = {
    called: each.name
    for each in _CLOSED
    if not isinstance(each.origin, HubDataset)
    for file in each.names
    for called in (_plain(file), _plain(file.rpartition("/")[2]))
}
