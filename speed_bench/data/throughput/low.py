"""The tier `low_entropy`: code to finish, and texts to put in order. What comes next is mostly there already."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from speed_bench.data.candidates.candidate import malformed, objects, text, texts
from speed_bench.data.sources import SOURCES
from speed_bench.data.sources.library import Record
from speed_bench.data.throughput.families import Family, Target
from speed_bench.data.throughput.pieces import Draft, Part, Piece, measured, part
from speed_bench.data.throughput.stock import Stock, material

_FINISH: Final = (
    "Finish the code under the last heading above. Go on exactly where it stops, in the style of what precedes it, and "
    "write code alone."
)
_FUNCTIONS: Final = (
    "These are finished functions of a code base, each with its tests. The last one has no body yet; read the others "
    "first.\n\n"
)
_NOTES: Final = (
    "These are notes on a library, and snippets that use it. The last snippet is not finished; read the others "
    "first.\n\n"
)
_FILES: Final = "These are files of a code base. The last one is not finished; read the others first.\n\n"
_SORT: Final = (
    "These are parts of stories; within each group they are out of order. Read them, and find the order in which they "
    "happened.\n\n"
)
_ORDER: Final = (
    "For every group above, in turn, put its scenes into the order in which they happened: repeat the first sentence "
    "of each scene, one scene a line, the earliest first."
)
_VARIETY: Final = 3
"""How many prompts' worth of functions a language must have to do without the other languages."""
_UNFINISHED: Final = "=== To be finished ==="
_MOST_RECORDS: Final = 1000
"""Of a file of RepoBench; thousands more would be measured for nothing."""
_LINES_TO_FINISH: Final = 40
"""Lines of an unfinished file that stand last; the file goes on behind them."""


def humanevalpack(stock: Stock) -> list[Family]:
    """Functions with bodies and tests in one language, then one of the same language without a body.

    Where one language is not enough for the variety of a bucket, the others join in, never with the same problem.
    """
    solved: dict[str, list[Draft]] = defaultdict(list)
    asked: dict[str, list[Target]] = defaultdict(list)
    for record in stock.records("humanevalpack"):
        name = text(record, "task_id")
        language, _, problem = name.replace("CPP", "C++").partition("/")
        prompt = text(record, "prompt")
        whole = f"{prompt}{text(record, 'canonical_solution')}\n{text(record, 'test')}"
        solved[language].append(Draft(name, (part(f"=== {language} ===", whole),), problem))
        asked[language].append(Target(name, part(f"{_UNFINISHED}\n{language}:", prompt).text, problem))
    pools = {language: measured(drafts) for language, drafts in solved.items()}
    every = tuple(piece for pool in pools.values() for piece in pool)
    families = []
    for language, own in pools.items():
        pool = own if material(own) >= _VARIETY * stock.num_tokens else every
        families.append(
            Family(
                name=f"humanevalpack/{language}",
                source="humanevalpack",
                head=_FUNCTIONS,
                request=_FINISH,
                pool=pool,
                material=material(pool),
                targets=stock.targets(asked[language]),
                starters=tuple(place for place, piece in enumerate(pool) if piece in own),
            )
        )
    return stock.enough(families)


def private_eval(stock: Stock) -> list[Family]:
    """BAMBOO's private libraries: notes on their functions and solved snippets, then a snippet without its end."""
    notes: dict[str, Draft] = {}
    solved: list[Draft] = []
    asked: list[Target] = []
    for record in stock.records("bamboo", r"private_eval_\d+k"):
        src_id = _src_id("bamboo", record)
        described, _, code = text(record, "prompt").rpartition("# [end]")
        for number, note in enumerate(re.split(r"(?:^|\n)?# # ", described)[1:]):
            entry = note.strip()
            if entry and entry not in notes:
                notes[entry] = Draft(f"{src_id}_note_{number}", (part("=== Note ===", entry),), entry)
        whole = f"{code.rstrip(' ')}{texts(record, 'canonical_solution')[0].lstrip(' ')}"
        solved.append(Draft(src_id, (part("=== Snippet ===", whole),), src_id))
        asked.append(Target(src_id, part(_UNFINISHED, code).text, src_id))
    if not solved:
        return []
    pool = measured([*notes.values(), *solved])
    return stock.enough(
        [
            Family(
                name="bamboo/private_eval",
                source="bamboo",
                head=_NOTES,
                request=_FINISH,
                pool=pool,
                material=material(pool),
                targets=stock.targets(asked),
            )
        ]
    )


def repobench(stock: Stock) -> list[Family]:
    """RepoBench: snippets of other files of a repository, then a file that stops before its next line."""
    families = []
    for file in stock.files("repobench"):
        drafts, asked = [], []
        for record in stock.library.records(SOURCES["repobench"].folder, file)[:_MOST_RECORDS]:
            src_id = f"repobench_{file.rpartition('/')[2].partition('.')[0]}_{record.row}"
            snippets = [part(f"=== {each['path']} ===", each["snippet"]) for each in _listed(record, "context")]
            code = f"{record.fields.get('import_statement') or ''}\n{text(record, 'cropped_code')}"
            own = Draft(src_id, tuple(snippets), src_id)
            solved = part("=== File ===", f"{code}\n{text(record, 'next_line')}")
            drafts.append(Draft(src_id, (*snippets, solved), src_id))
            asked.append((own, Target(src_id, part(_UNFINISHED, code).text, src_id)))
        families.append(_repository_family(stock, "repobench", f"repobench/{file}", drafts, asked))
    return stock.enough(families)


def long_code_arena(stock: Stock) -> list[Family]:
    """Long Code Arena: files of a repository, then one of which the second half is missing."""
    drafts, asked = [], []
    for record in stock.records("long_code_arena"):
        src_id = f"long_code_arena_{record.row}"
        parts = tuple(_snapshot(record, 6 * stock.num_tokens))
        file = record.fields.get("completion_file")
        if not isinstance(file, Mapping) or not isinstance(file.get("content"), str):
            raise malformed(record, "completion_file must be an object with a content")
        lines = file["content"].split("\n")
        middle = (len(lines) + 1) // 2
        code = "\n".join(lines[max(0, middle - _LINES_TO_FINISH) : middle])
        draft = Draft(src_id, parts, src_id)
        drafts.append(draft)
        asked.append((draft, Target(src_id, part(_UNFINISHED, code).text, src_id)))
    if not drafts:
        return []
    return stock.enough([_repository_family(stock, "long_code_arena", "long_code_arena", drafts, asked)])


def _repository_family(
    stock: Stock, source: str, name: str, drafts: Sequence[Draft], asked: Sequence[tuple[Draft, Target]]
) -> Family:
    """Prompts that begin with the other files of the repository they ask about, then go on with other repositories."""
    pool = measured(drafts)
    owns = {piece.key: piece for piece in measured([own for own, _ in asked])}
    targets = [target._replace(own=owns[target.key] if owns[target.key].parts else None) for _, target in asked]
    return Family(
        name=name,
        source=source,
        head=_FILES,
        request=_FINISH,
        pool=pool,
        material=material(pool),
        targets=stock.targets(targets),
    )


def _snapshot(record: Record, most_chars: int) -> Iterator[Part]:
    """The files of a repository, as many as can matter."""
    snapshot = record.fields.get("repo_snapshot")
    names, contents = (snapshot.get("filename"), snapshot.get("content")) if isinstance(snapshot, Mapping) else (0, 0)
    if not isinstance(names, list) or not isinstance(contents, list) or len(names) != len(contents):
        raise malformed(record, "repo_snapshot must be an object with as many contents as filenames")
    for name, content in zip(names, contents, strict=True):
        if most_chars > 0 and isinstance(content, str) and content.strip():
            most_chars -= len(content)
            yield part(f"=== {name} ===", content)


def _listed(record: Record, name: str) -> tuple[dict[str, Any], ...]:
    """A field that holds a list of objects, or an empty one."""
    return objects(record, name, "path", "snippet") if record.fields.get(name) else ()


def showssort(stock: Stock) -> list[Family]:
    """BAMBOO's scenes of a show out of order. Records that are one episode in two orders count once."""
    drafts = []
    for record in stock.records("bamboo", r"showssort_\d+k"):
        scenes = texts(record, "content")
        parts = [part(f"Scene {number}:", scene) for number, scene in enumerate(scenes, 1)]
        parts[0] = Part(f"=== A group of scenes ===\n{parts[0].heading}", parts[0].body)
        drafts.append(Draft(_src_id("bamboo", record), tuple(parts), "\n".join(sorted(scenes))))
    return _sorting(stock, "bamboo/showssort", "bamboo", measured(drafts))


def textsort(stock: Stock) -> list[Family]:
    """Ada-LEval's sections of books out of order, as it puts them."""
    drafts = [
        Draft(_src_id("textsort", record), (part("=== A group of scenes ===", text(record, "prompt")),), str(at))
        for at, record in enumerate(stock.records("adaleval_textsort", "textsort"))
    ]
    return _sorting(stock, "adaleval/textsort", "adaleval_textsort", measured(drafts))


def _sorting(stock: Stock, name: str, source: str, pool: tuple[Piece, ...]) -> list[Family]:
    if not pool:
        return []
    family = Family(
        name=name,
        source=source,
        head=_SORT,
        request=f"=== What to do ===\n{_ORDER}",
        pool=pool,
        material=material(pool),
        breakable=True,
    )
    return stock.enough([family])


def _src_id(name: str, record: Record) -> str:
    return f"{name}_{record.file.rpartition('/')[2].partition('.')[0]}_{record.row}"
