"""Characters to play: RoleBench and CoSER."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, Final

from speed_bench.data.candidates.candidate import (
    Candidate,
    candidate,
    dealt,
    filled,
    malformed,
    objects,
    row_id,
    text,
    texts,
)
from speed_bench.data.sources.library import Record

DESCRIPTIONS: Final = "profiles-eng/desc.json"
"""Of RoleBench: role -> description. Prompts are made without it where it is not there."""
ROW_INDEX: Final = "test/test_set.row_index.json"
"""Beside a part of CoSER's test set: the rows of the whole that it holds."""
COSER_SEED: Final = 12347
"""Each row draws the character to play with a generator of its own, as the published rows do."""

_PLAY: Final = (
    "From here on you are {role}. Speak as {role} would and do not step out of the part.",
    "Answer me the way {role} would, with the same knowledge, manner and turns of phrase.",
    "I would like to talk to {role}. Please take that part and keep to it.",
)
_SCENE: Final = "Play {role} in a scene from {book}. Speak and act as {role} only, and leave the others to me."
_OPEN: Final = (
    "Open the scene with what {role} says and does first.",
    "Begin now, in the voice of {role}, in a few sentences.",
)


def rolebench(records: Sequence[Record]) -> Iterator[Candidate]:
    """Conversations with one role of one, two and three consecutive questions in turn."""
    about = {text(each, "key"): text(each, "value") for each in records if each.file == DESCRIPTIONS}
    questions = [record for record in records if record.file != DESCRIPTIONS]
    for (file, role), group in groupby(questions, lambda record: (record.file, text(record, "role"))):
        config = next((part for part in file.split("/") if part.endswith("-generalization")), None)
        rows, size = list(group), 1
        if config is None:
            raise malformed(rows[0], "no folder of its path names the config, such as role-generalization")
        while rows:
            yield _rolebench(rows[:size], role, config, about.get(role))
            rows, size = rows[size:], size % 3 + 1


def _rolebench(rows: Sequence[Record], role: str, config: str, about: str | None) -> Candidate:
    src_id = "_".join(f"rolebench_{config}_{row.row}" for row in rows)
    asked = [text(row, "question").strip() for row in rows]
    request = filled(dealt(_PLAY, row_id("roleplay", "rolebench", src_id)), role=role)
    first = "\n\n".join(part for part in (request, about, asked[0]) if part)
    return candidate(
        "roleplay",
        "rolebench",
        src_id,
        (first, *asked[1:]),
        texts=[f"{role}: {question}" for question in asked],
    )


def coser(records: Sequence[Record]) -> Iterator[Candidate]:
    """Scenes of novels. The rows of a part are numbered as in the whole test set, by the index beside it."""
    numbers = [record for record in records if record.file == ROW_INDEX]
    scenes = [record for record in records if record.file != ROW_INDEX]
    rows = numbers[0].fields.get("value") if numbers else [scene.row for scene in scenes]
    if not isinstance(rows, list) or len(rows) != len(scenes):
        raise malformed(numbers[0], f"it must have a row number for each of the {len(scenes)} scenes beside it")
    for scene, row in zip(scenes, rows, strict=True):
        yield _coser(scene, f"coser_{row}")


def _coser(record: Record, src_id: str) -> Candidate:
    import numpy as np

    characters = texts(record, "major_characters")
    role = characters[int(np.random.default_rng(COSER_SEED).integers(len(characters)))]
    profiles = record.fields.get("character_profiles")
    if not isinstance(profiles, dict):
        raise malformed(record, "character_profiles must be an object")
    scenario = text(record, "scenario")
    others = [f"{name}: {profile.strip()}" for name, profile in _told(profiles) if name != role]
    parts = [
        filled(_SCENE, role=role, book=text(record, "book")),
        *(f"About {name}:\n{profile.strip()}" for name, profile in _told(profiles) if name == role),
        f"Where and when:\n{scenario.strip()}",
        *(f"What is on your mind:\n{mind.strip()}" for mind in _mind(record, role)),
        *(["Who else is there:\n" + "\n\n".join(others)] if others else []),
        filled(dealt(_OPEN, row_id("roleplay", "coser", src_id)), role=role),
    ]
    return candidate("roleplay", "coser", src_id, ("\n\n".join(parts),), texts=(scenario,))


def _told(profiles: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The profiles that say something: readers of JSON fill in the names of other rows with null."""
    return [(name, each) for name, each in profiles.items() if isinstance(each, str) and each.strip()]


def _mind(record: Record, role: str) -> list[str]:
    """`motivation`, or `thought` as newer copies call it, of a character."""
    said = [
        each.get("motivation") or each.get("thought")
        for each in objects(record, "key_characters", "name")
        if each["name"] == role
    ]
    return [each for each in said if isinstance(each, str) and each.strip()]
