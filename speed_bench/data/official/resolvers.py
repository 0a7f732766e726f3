"""How a masked row of each kind gets its prompts: the official builder's rules, one function per source.

`source` and `src_id` of a row are data of somebody else. Nothing is opened because they say so: an address only picks
one of the pinned files, a number only a record of it.
"""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from speed_bench.data.lengths import official_cut
from speed_bench.data.o200k import count
from speed_bench.data.official.recipe import HLE, HLE_FILE, Recipe
from speed_bench.data.official.records import ROLES, mapping, objects, text, texts
from speed_bench.data.official.rows import Published
from speed_bench.data.official.templates import Template
from speed_bench.data.sources import SOURCES
from speed_bench.errors import DataError

VERSION: Final = 1
"""One more with every change that gives any row other prompts: those kept from an earlier try are made anew then."""
_ADDRESS: Final = re.compile(
    r"https?://(huggingface\.co|github\.com|raw\.githubusercontent\.com|opencompass\.openxlab\.space)(/[\w.%@+~-]+)+/?"
    r"(\?[\w=&-]+)?",
    re.ASCII,
)
_COMMIT: Final = re.compile(r"(?<=/)[0-9a-f]{40}(?=/|$)")
_CHARACTER_SEED: Final = 12347
_ANSWER_SEED: Final = 42
_RETRIEVAL: Final = ("hybridial/test", "sqa/test")
_MAX_DIGITS: Final = 6


def bamboo(row: Published, recipe: Recipe) -> list[str]:
    """Dialogues of one file, each between marks, cut or padded to length."""
    name = _file(row, "bamboo", r"(?:meetingpred|showspred)_(?:4|16)k\.jsonl")
    prompts = recipe.prompts
    contents = [text(recipe.records.numbered("bamboo", number, name), "content") for number in _numbers(row)]
    parts = [prompts.dialogue_part.fill({"i": i, "content": content}) for i, content in enumerate(contents, 1)]
    whole = prompts.dialogue.fill({"content": prompts.between_dialogues.join(parts)})
    return [official_cut(whole, recipe.num_tokens, prompts.padding)]


def cnn_dailymail(row: Published, recipe: Recipe) -> list[str]:
    """The article, in the row's own request."""
    record = recipe.records.identified("cnn_dailymail", "id", row.src_id, "3.0.0/test")
    return [_template(row, "article").fill({"article": text(record, "article")})]


def hle(row: Published, recipe: Recipe) -> list[str]:
    """The question; behind others with their rationales where there is a length to fill."""
    if recipe.by_length:
        return [recipe.experts.prompt(row.src_id, recipe.num_tokens)]
    return [text(recipe.records.identified(HLE, "id", row.src_id, HLE_FILE), "question")]


def livecodebench(row: Published, recipe: Recipe) -> list[str]:
    """The statement and the code to start from, in the row's own request."""
    files = recipe.records.named("livecodebench") or SOURCES["livecodebench"].names
    record = recipe.records.identified("livecodebench", "question_id", row.src_id, *files)
    values = {"question": text(record, "question_content"), "starter_code": text(record, "starter_code")}
    return [_template(row, "question", "starter_code").fill(values)]


def code_contests(row: Published, recipe: Recipe) -> list[str]:
    """The statement, in the row's own request."""
    record = recipe.records.identified("code_contests", "name", row.src_id, "default/test")
    return [_template(row, "question").fill({"question": text(record, "description")})]


def mtbench101(row: Published, recipe: Recipe) -> list[str]:
    """Every user turn of the dialogue."""
    name = _file(row, "mtbench101", r"mtbench101\.jsonl")
    record = recipe.records.numbered("mtbench101", _number(row, r"[\w-]+_(\d{1,6})"), name)
    return [each["user"] for each in objects(record, "history", "user")]


def opus100(row: Published, recipe: Recipe) -> list[str]:
    """The sentence pair, in the row's own request, which says what of it is shown."""
    found = _matched(row, r"opus100_([a-z]{2,3}-[a-z]{2,3})_(\d{1,6})")
    record = recipe.records.numbered("opus100", int(found[2]), f"{found[1]}/test")
    return [_template(row, "question").fill({"question": mapping(record, "translation")})]


def shows_whole_pair(row: Published) -> bool:
    """Whether a row of OPUS-100 shows the reference translation along with the sentence to translate."""
    holes = _template(row, "question").holes
    return any(hole.key is None for hole in holes) or len(holes) > 1


def chatrag_bench(row: Published, recipe: Recipe) -> list[str]:
    """All passages and the first question; then the further questions."""
    number = _number(row, r"[\w-]+_(\d{1,6})")
    record = recipe.records.numbered("chatrag_bench", number, *_RETRIEVAL)
    passages = [each["text"] for each in objects(record, "ctxs", "text")]
    questions = [each["content"] for each in objects(record, "messages", "role", "content") if each["role"] == "user"]
    if not questions:
        raise DataError(f"record {number} of {record.source} has no message of a user")
    context = recipe.prompts.between_passages.join(passages)
    return [recipe.prompts.retrieval.fill({"context": context, "question": questions[0]}), *questions[1:]]


def mmlu_pro(row: Published, recipe: Recipe) -> list[str]:
    """A question with its options per placeholder, from consecutive records, the first behind a header.

    The category in `src_id` must be the record's: copies of this source are ordered in other ways.
    """
    found = _matched(row, r"mmlu_pro_\((\d{1,6}), ?['\"]([^'\"]{1,80})['\"]\)")
    prompts = recipe.prompts
    turns: list[str] = []
    for number in range(int(found[1]), int(found[1]) + len(row.turns)):
        record = recipe.records.numbered("mmlu_pro", number, "default/test")
        if not turns and text(record, "category") != found[2]:
            raise DataError(
                f"record {number} of {record.source}/{record.file} is of the category {text(record, 'category')!r}, "
                f"not {found[2]!r}: these records are not in the published order"
            )
        lettered = [(chr(ord("A") + i), option) for i, option in enumerate(texts(record, "options"))]
        options = [prompts.choice_option.fill({"letter": letter, "option": option}) for letter, option in lettered]
        values = {"question": text(record, "question"), "options_str": prompts.between_options.join(options)}
        turns.append(prompts.choice_question.fill(values))
    return [prompts.choice_header.fill({"subject": row.sub_category}) + turns[0], *turns[1:]]


def stackselect(row: Published, recipe: Recipe) -> list[str]:
    """The question and shuffled answers, as many as the builder's count lets in, cut or padded to length.

    That count looks at one answer at a time, so nearly all of them go in. Where the right one is not among them, the
    builder adds a list and an array: the right answer then stands in front of every other, not beside them.
    """
    name = _file(row, "adaleval_stackselect", r"stackselect_\d{1,3}k\.json")
    record = recipe.records.identified("adaleval_stackselect", "question_id", row.src_id, name)
    answers, label, prompts = texts(record, "all_answers"), text(record, "answer"), recipe.prompts
    right = int(label[1:]) - 1 if re.fullmatch(r"A[1-9]\d{0,5}", label, re.ASCII) else -1
    if not 0 <= right < len(answers):
        raise DataError(f"record {record.row} of {record.source}/{name}: 'answer' {label!r:.20} is none of its answers")
    numbered = [prompts.stack_answer.fill({"i": i, "answer": answer}) for i, answer in enumerate(answers, 1)]
    opening = prompts.stack_opening.fill({"question": text(record, "question")})
    room = recipe.num_tokens - count(opening) - count(prompts.stack_closing) - count(numbered[right])
    last = 0
    for i, answer in enumerate(numbered):
        if i != right:
            if len(answer.encode()) > room and count(answer) > room:  # a token has at least one byte
                break
            last = i
    chosen = answers[: last + 1] if last >= right else [answers[right] + answer for answer in answers[: last + 1]]
    random.Random(_ANSWER_SEED).shuffle(chosen)  # noqa: S311
    shown = [prompts.stack_answer.fill({"i": i, "answer": answer}) for i, answer in enumerate(chosen, 1)]
    return [official_cut("".join([opening, *shown, prompts.stack_closing]), recipe.num_tokens, prompts.padding)]


def textsort(row: Published, recipe: Recipe) -> list[str]:
    """The passages behind another instruction than their publisher's, cut or padded to length."""
    name = _file(row, "adaleval_textsort", r"textsort_\d{1,3}k\.json")
    number = _number(row, r"[^_]*_(\d{1,6})(?:_.*)?")
    prompt = text(recipe.records.numbered("adaleval_textsort", number, name), "prompt")
    replaced = prompt.replace(recipe.prompts.sort_instruction, recipe.prompts.sort_replacement, 1)
    return [official_cut(replaced, recipe.num_tokens, recipe.prompts.padding)]


def rolebench(row: Published, recipe: Recipe) -> list[str]:
    """A role's description and first request; then further requests, without the role's name in front."""
    found = _matched(row, r"rolebench_((?:instruction|role)-generalization)_.+")
    name = f"rolebench-eng/{found[1]}/role_specific/test.jsonl"
    _file(row, "rolebench", r"rolebench-eng|RoleBench|[0-9a-f]{40}", name)
    records = [recipe.records.numbered("rolebench", number, name) for number in _numbers(row)[: len(row.turns)]]
    role = text(records[0], "role")
    described = recipe.records.object("rolebench", ROLES).get(role)
    if not isinstance(described, str):
        raise DataError(f"{ROLES} of RoleBench describes no {role!r:.80}")
    values = {"role_name": role, "role_description_and_catchphrases": described}
    first = _template(row, *values).fill(values) + "\n" + text(records[0], "question")
    further = [text(record, "question") for record in records[1:]]
    return [first, *(each.removeprefix(f"{role}, ").removeprefix(f" {role},") for each in further)]


def coser(row: Published, recipe: Recipe) -> list[str]:
    """A drawn character of a scene, with the profiles of the others."""
    import numpy as np

    _file(row, "coser", r"CoSER|[0-9a-f]{40}", "test/test_set.json")
    number = _number(row, r"coser_(\d{1,6})(?:_.*)?")
    record = recipe.records.numbered("coser", number, "test/test_set.json")
    names, profiles = texts(record, "major_characters"), mapping(record, "character_profiles")
    if not names:
        raise DataError(f"record {number} of {record.source}/{record.file} has no major_characters")
    character = names[int(np.random.default_rng(_CHARACTER_SEED).choice(len(names)))]
    if not isinstance(profiles.get(character), str):
        raise DataError(f"record {number} of {record.source}/{record.file} has no profile of {character!r:.80}")
    key_characters = objects(record, "key_characters", "name")
    mine = [each for each in key_characters if each["name"] == character][:1]
    if mine and not isinstance(mine[0].get("motivation"), str):
        raise DataError(f"record {number} of {record.source}/{record.file} has no 'motivation' in key_characters")
    others = [
        recipe.prompts.other_character.fill({"character_name": name, "character_profile": profile})
        for name, profile in profiles.items()
        if name != character and profile is not None
    ]
    values = {
        "character": character,
        "book_name": text(record, "book"),
        "character_profile": profiles[character],
        "scenario": text(record, "scenario"),
        "other_character_profiles_str": recipe.prompts.between_characters.join(others),
        "motivation": mine[0]["motivation"] if mine else recipe.prompts.no_motivation,
    }
    return [recipe.prompts.character.fill(values)]


@dataclass(frozen=True, slots=True)
class Kind:
    """The rows whose `source` has a mark in it."""

    source: str
    """Id in `SOURCES`."""
    mark: str
    resolve: Callable[[Published, Recipe], list[str]]


KINDS: Final = (
    Kind("bamboo", "RUCAIBox/BAMBOO", bamboo),
    Kind("cnn_dailymail", "abisee/cnn_dailymail", cnn_dailymail),
    Kind("hle", "cais/hle", hle),
    Kind("livecodebench", "livecodebench/code_generation_lite", livecodebench),
    Kind("code_contests", "deepmind/code_contests", code_contests),
    Kind("mtbench101", "mtbench101/mt-bench-101", mtbench101),
    Kind("opus100", "Helsinki-NLP/opus-100", opus100),
    Kind("chatrag_bench", "nvidia/ChatRAG-Bench", chatrag_bench),
    Kind("mmlu_pro", "TIGER-Lab/MMLU-Pro", mmlu_pro),
    Kind("adaleval_stackselect", "AdaLEval/stackselect", stackselect),
    Kind("adaleval_textsort", "AdaLEval/textsort", textsort),
    Kind("rolebench", "ZenMoore/RoleBench", rolebench),
    Kind("coser", "Neph0s/CoSER", coser),
)
"""In the order in which the official builder looks for the marks."""


def kind_of(row: Published) -> Kind:
    """Which rule a masked row is under. Raises DataError for an address that is none, or of no source here."""
    if not _ADDRESS.fullmatch(row.source) or ".." in row.source:
        raise DataError(f"its source {row.source!r:.120} is no address that a source is published at")
    for kind in KINDS:
        if kind.mark in row.source:
            return kind
    raise DataError(f"its source {row.source!r:.120} is of none that masked rows are known to be from")


def _file(row: Published, source: str, ending: str, name: str | None = None) -> str:
    """The pinned file that the last part of an address names; or `name`, where that part names its folder.

    Raises DataError for another file, and for the address of another revision than the pinned one.
    """
    known, last = SOURCES[source], row.source.partition("?")[0].rstrip("/").rpartition("/")[2]
    commit = _COMMIT.search(row.source)
    if commit and known.revision and commit[0] != known.revision:
        raise DataError(f"its source is {known.name} at {commit[0]}, and only {known.revision} is pinned here")
    named = name or next((each for each in known.names if each.rpartition("/")[2] == last), None)
    if named is None or not re.fullmatch(ending, last, re.ASCII):
        raise DataError(f"its source {row.source!r:.120} is no file of {known.name} that is pinned here")
    return named


def _matched(row: Published, pattern: str) -> re.Match[str]:
    found = re.fullmatch(pattern, row.src_id, re.ASCII)
    if found is None or ".." in row.src_id:
        raise DataError(f"its src_id {row.src_id!r:.80} names no record")
    return found


def _numbers(row: Published) -> list[int]:
    """Every number behind an underscore, as the builder finds them."""
    found = re.findall(r"_(\d+)", _matched(row, r"[\w .,;+()'\[\]-]+")[0], re.ASCII)
    if not found or max(map(len, found)) > _MAX_DIGITS:
        raise DataError(f"its src_id {row.src_id!r:.80} names no records")
    return [int(number) for number in found]


def _number(row: Published, pattern: str) -> int:
    return int(_matched(row, pattern)[1])


def _template(row: Published, *names: str) -> Template:
    return Template.parse(row.template, names)
