"""The throughput configs of the edition `curated`: three tiers of 512 prompts, each of exactly k x 1000 tokens.

    library ──low, mixed, high──► families ──prompt(row)──► Prompt ──► rows, what the manifest says

docs/data/throughput.md says how each tier is made.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from speed_bench.data.configs import BUCKETS, ROWS_PER_TIER, TIERS
from speed_bench.data.lengths import PADDING
from speed_bench.data.o200k import counts
from speed_bench.data.progress import Progress, silent
from speed_bench.data.sources import SOURCES
from speed_bench.data.sources.library import Library
from speed_bench.data.throughput import high, low, mixed
from speed_bench.data.throughput.families import Family
from speed_bench.data.throughput.pieces import Prompt
from speed_bench.data.throughput.stock import Stock
from speed_bench.errors import ConfigError, DataError, unknown
from speed_bench.types import Conversation


class Recipe(NamedTuple):
    """How a source becomes families."""

    source: str
    """Its id, and that of all that the families draw from."""
    families: Callable[[Stock], list[Family]]


RECIPES: Final[Mapping[str, Mapping[str, tuple[Recipe, ...]]]] = {
    "low_entropy": {
        "code_completion": (
            Recipe("humanevalpack", low.humanevalpack),
            Recipe("bamboo", low.private_eval),
            Recipe("repobench", low.repobench),
            Recipe("long_code_arena", low.long_code_arena),
        ),
        "sorting": (Recipe("bamboo", low.showssort), Recipe("adaleval_textsort", low.textsort)),
    },
    "mixed": {
        "answer_ranking": (Recipe("adaleval_stackselect", mixed.stackselect),),
        "few_shot_questions": (Recipe("mmlu_pro", mixed.mmlu_pro), Recipe("hle", mixed.hle)),
    },
    "high_entropy": {
        "dialogue": (Recipe("bamboo", high.dialogues),),
        "book": (Recipe("gutenberg", high.books),),
        "creative_writing": (Recipe("writingbench", high.writingbench),),
    },
}
"""tier -> sub_category -> what makes its families. Rows are dealt evenly to tasks, and within one to families."""


class Made(NamedTuple):
    """One row, before it becomes one."""

    task: str
    family: Family
    prompt: Prompt


@dataclass(frozen=True, slots=True)
class Bucket:
    """The rows of a throughput config, and what its manifest says of how they came about."""

    rows: tuple[Conversation, ...]
    about: dict[str, Any]


def throughput_rows(
    library: Library,
    config: str,
    progress: Progress = silent,
    *,
    without: Collection[str] = (),
    rows_per_tier: int = ROWS_PER_TIER,
) -> Bucket:
    """Make a throughput config from what a library has, without the sources (by id) that are named.

    A row is a function of library, config, tier and its own number. Raises DataError, before anything is read, for a
    gated source that is not open to us; where a tier has no source; and where a prompt came out other than promised,
    with the row's id.
    """
    num_tokens = tokens_of(config)
    library.check_access([source for source in _sources() if source not in without])
    stock = Stock(library, num_tokens, without)
    rows: list[Conversation] = []
    about: dict[str, Any] = {}
    for tier in TIERS:
        made = _tier(stock, config, tier, rows_per_tier, progress)
        rows += [_row(config, tier, number, each) for number, each in enumerate(made)]
        about[tier] = _about(made, num_tokens)
    _check(rows, num_tokens)
    return Bucket(
        tuple(rows),
        {
            "num_tokens": num_tokens,
            "padding": PADDING,
            "tiers": about,
            "left_out": dict(sorted(stock.left_out.items())),
        },
    )


def tokens_of(config: str) -> int:
    """The length of a throughput config's prompts. Raises ConfigError for another config.

    >>> tokens_of("throughput_16k")
    16000
    """
    lengths = {f"throughput_{k}k": 1000 * k for k in BUCKETS}
    if config not in lengths:
        raise ConfigError(unknown("throughput config", config, lengths))
    return lengths[config]


def _sources() -> set[str]:
    """What any row may be from."""
    return {recipe.source for tasks in RECIPES.values() for recipes in tasks.values() for recipe in recipes}


def _tier(stock: Stock, config: str, tier: str, num_rows: int, progress: Progress) -> list[Made]:
    """The rows of a tier. Its tasks take turns, and the families of each task."""
    every = {
        task: [each for recipe in recipes for each in recipe.families(stock)] for task, recipes in RECIPES[tier].items()
    }
    tasks = {task: families for task, families in every.items() if families}
    if not tasks:
        raise DataError(
            f"the tier {tier} of {config} has no source; not there: "
            + "; ".join(f"{name} ({why})" for name, why in stock.left_out.items())
        )

    def make(number: int) -> Made:
        task, in_task = _dealt(list(tasks), number)
        family, index = _dealt(tasks[task], in_task)
        return Made(task, family, family.prompt(f"curated/{config}/{tier}/{family.name}", index, stock.num_tokens))

    made: list[Made] = []
    with ThreadPoolExecutor(2) as pool:
        for each in pool.map(make, range(num_rows)):
            made.append(each)
            progress(f"{config} {tier}", len(made), num_rows)
    return made


def _dealt(hands: Sequence[Any], number: int) -> tuple[Any, int]:
    """Whose turn it is, and the how-manieth of his.

    >>> [_dealt("ab", number) for number in range(4)]
    [('a', 0), ('b', 0), ('a', 1), ('b', 1)]
    """
    turn, hand = divmod(number, len(hands))
    return hands[hand], turn


def _row(config: str, tier: str, number: int, made: Made) -> Conversation:
    return Conversation(
        question_id=hashlib.sha256(f"curated/{config}/{tier}/{number}".encode()).hexdigest()[:32],
        category=tier,
        sub_category=made.task,
        turns=(made.prompt.text,),
        source=SOURCES[made.family.source].url,
        src_id=",".join(made.prompt.records),
        difficulty=None,
        multiturn=False,
    )


def _check(rows: Sequence[Conversation], num_tokens: int) -> None:
    """Every prompt has the promised length, and no two are the same."""
    seen: dict[str, str] = {}
    for row, size in zip(rows, counts([row.turns[0] for row in rows]), strict=True):
        if size != num_tokens:
            raise DataError(f"row {row.question_id} has {size} tokens, not {num_tokens}")
        digest = hashlib.sha256(row.turns[0].encode()).hexdigest()
        if twin := seen.get(digest):
            raise DataError(f"rows {twin} and {row.question_id} are the same prompt: their source has too few records")
        seen[digest] = row.question_id


def _about(made: Sequence[Made], num_tokens: int) -> dict[str, Any]:
    """What a manifest says of a tier."""
    tasks: dict[str, list[Made]] = {}
    for each in made:
        tasks.setdefault(each.task, []).append(each)
    padding = [each.prompt.num_padding for each in made]
    return {
        **_reuse(made, num_tokens),
        "num_padded": sum(num > 0 for num in padding),
        "max_padding_share": round(max(padding) / num_tokens, 4),
        "tasks": {task: _reuse(rows, num_tokens) for task, rows in sorted(tasks.items())},
        "families": dict(sorted(Counter(each.family.name for each in made).items())),
    }


def _reuse(made: Sequence[Made], num_tokens: int) -> dict[str, Any]:
    """How many rows there are, from how many records, and how often they draw the same.

    `tokens_per_material` are the tokens of the rows over those of all records that they may draw from: above 1
    something is drawn twice. A passage of a book is a record by itself, and overlaps others.
    """
    uses = Counter((each.family.source, record) for each in made for record in set(each.prompt.records))
    pools = {id(each.family.pool): each.family.material for each in made}
    return {
        "num_rows": len(made),
        "num_records": len(uses),
        "rows_per_record": round(sum(uses.values()) / len(uses), 2),
        "tokens_per_material": round(len(made) * num_tokens / sum(pools.values()), 2),
    }
