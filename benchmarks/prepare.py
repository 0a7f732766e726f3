"""What resolving the masked rows of the official edition costs, beside doing it one row at a time.

    python benchmarks/prepare.py                     # all six configs and the comparison: about two minutes
    python benchmarks/prepare.py throughput_32k      # one config

Sources are made up here, as large as the published ones and with as many records, and so are masked rows: as many of
each source as the published config has where that is known, else a third of a tier. **one at a time** is what a loader
without memory does, and what the official builder does: the whole source becomes a pandas table for every row, and the
examples of Humanity's Last Exam are tokenized for every row. Only `--sample` rows per source are done that way; each
of them is compared with ours, byte for byte. `pandas` 3 shares text with Arrow and makes such tables nearly for free,
pandas 2 copies it: the version is printed.

`whole` is all of `data prepare` but the download: records indexed, rows resolved and kept, counted, hashed, written.
"""

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from datasets import Dataset
from rich.console import Console
from rich.table import Table

from speed_bench.data.configs import NUM_ROWS
from speed_bench.data.o200k import count, decode, encode
from speed_bench.data.official import prepare
from speed_bench.data.official.builder_file import Prompts
from speed_bench.data.official.partial import Partial
from speed_bench.data.official.records import Records
from speed_bench.data.official.resolvers import kind_of
from speed_bench.data.official.rows import Published, PublishedConfig, parse
from speed_bench.data.official.templates import Template
from speed_bench.data.schema import PLACEHOLDER
from speed_bench.data.sources import SOURCES
from speed_bench.data.sources.library import Record

Tables = dict[str, list[dict[str, Any]]]
DRAWS = random.Random(7)
TOKENS_PER_WORD = 2.64
WORDS = ["".join(DRAWS.choices("aeiou bcdfglmnprst", k=DRAWS.randint(2, 9))).strip() or "a" for _ in range(4000)]
ADALEVAL = "http://opencompass.openxlab.space/utils/AdaLEval"
BAMBOO = "https://github.com/RUCAIBox/BAMBOO/blob/main/datasets/showspred_16k.jsonl"


def text(num_words: int) -> str:
    return " ".join(DRAWS.choices(WORDS, k=num_words))


def num_words(num_tokens: int) -> int:
    """How many of these words have about so many tokens."""
    return round(num_tokens / TOKENS_PER_WORD)


def template(pattern: str, *names: str) -> Template:
    return Template.parse(pattern, names)


PROMPTS = Prompts(
    padding="Reply now.\n",
    dialogue=template("Go on with these.\n\n{content}\n", "content"),
    dialogue_part=template("Talk {i}\n{content}\nEnd", "i", "content"),
    between_dialogues="\n\n",
    stack_opening=template("Choose.\n{question}\n\n", "question"),
    stack_answer=template("A{i}:\n{answer}\n\n", "i", "answer"),
    stack_closing="Which?\n",
    sort_instruction="Sort.\n",
    sort_replacement="Write them out.\n",
    retrieval=template("{context}\n\n{question}", "context", "question"),
    between_passages="\n\n",
    character=template("{character}", "character"),
    other_character=template("{character_name}", "character_name"),
    between_characters="\n\n",
    no_motivation="none",
    choice_header=template("About {subject}.\n", "subject"),
    choice_question=template("{question}\n{options_str}\n", "question", "options_str"),
    choice_option=template("{letter} {option}", "letter", "option"),
    between_options="\n",
    expert_opening=template("Others of {category}:\n\n", "category"),
    expert_example=template("Q: {question}\nA: {rationale}\n\n", "question", "rationale"),
)


class Invented:
    """A library of records that are made when they are first asked for."""

    def __init__(self, bucket: int) -> None:
        self._bucket = bucket
        self._made: dict[tuple[str, str], tuple[Record, ...]] = {}
        self._files: dict[str, tuple[str, ...]] = defaultdict(tuple)
        for each in SOURCES.values():
            self._files[each.folder] += each.names

    def files(self, source: str) -> tuple[str, ...]:
        return self._files[source]

    def records(self, source: str, file: str) -> tuple[Record, ...]:
        if (source, file) not in self._made:
            rows = self._rows(source, file)
            self._made[source, file] = tuple(Record(source, file, number, row) for number, row in enumerate(rows))
        return self._made[source, file]

    def text(self, source: str, file: str) -> str:
        raise AssertionError((source, file))

    def facts(self, source: str) -> dict[str, Any]:
        return {"files": {file: {"sha256": "00"} for folder, file in self._made if folder == source}}

    def check_access(self, sources: object) -> None:
        """All of it is made up."""

    def _rows(self, source: str, file: str) -> list[dict[str, Any]]:
        words = num_words(1100 * self._bucket)  # a little more than is wanted
        if source == "hle":
            return [_expert(number) for number in range(2500)]
        if source == "cnn_dailymail":
            return [{"id": f"c{i}", "article": text(600)} for i in range(11490)]
        if source == "bamboo":
            return [{"content": text(2500)} for _ in range(100)]
        if "stackselect" in file:
            return [_replies(number, words) for number in range(300)]
        if "textsort" in file:
            return [{"prompt": "Sort.\n" + text(words)} for _ in range(200)]
        if source == "mtbench101":
            return [{"history": [{"user": text(30)} for _ in range(3)]} for _ in range(1388)]
        if source == "mmlu_pro":
            return [
                {"question": text(40), "options": [text(6) for _ in range(10)], "category": "any"} for _ in range(12032)
            ]
        if source == "opus100":
            return [{"translation": {"de": text(15), "en": text(15)}} for _ in range(2000)]
        if source == "livecodebench":
            return [
                {"question_id": f"{file}/{i}", "question_content": text(250), "starter_code": ""} for i in range(176)
            ]
        if source == "code_contests":
            return [{"name": f"{i}_A", "description": text(300)} for i in range(165)]
        return [{"ctxs": [{"text": text(80)} for _ in range(5)], "messages": [_ask()]} for _ in range(1000)]


def _ask() -> dict[str, str]:
    return {"role": "user", "content": text(12)}


def _expert(number: int) -> dict[str, Any]:
    image = "data:image/png;base64," + "A" * 100_000 if number % 7 == 0 else ""
    category = ("Math", "Physics", "Biology", "Humanities", "Computing", "Engineering", "Chemistry", "Other")[
        number % 8
    ]
    return {"id": f"h{number}", "question": text(90), "image": image, "rationale": text(110), "category": category}


def _replies(number: int, words: int) -> dict[str, Any]:
    answers = [text(100) for _ in range(max(3, words // 100))]
    return {"question_id": f"q{number}", "question": text(80), "all_answers": answers, "answer": "A2"}


def asked(library: Invented) -> list[str]:
    """Ids of the half of the exam that is asked."""
    ids = [record.fields["id"] for record in library.records("hle", "default/test")]
    return list(Dataset.from_dict({"id": ids}).train_test_split(test_size=0.5, shuffle=True, seed=42)["test"]["id"])


def published(config: str, library: Invented) -> PublishedConfig:
    """The rows of a config: masked ones as many as there are, the others with a prompt of the same length."""
    bucket = int(config.removeprefix("throughput_").removesuffix("k")) if config != "qualitative" else 0
    if bucket:
        at = f"{ADALEVAL}/stackselect_{bucket}k.json"
        exam = asked(library)
        dialogues = ["b" + "".join(f"_{(i + j) % 100}" for j in range(1 + bucket // 3)) for i in range(171)]
        rows = [
            *(_masked("low_entropy", f"{ADALEVAL}/textsort_{bucket}k.json", f"t_{i}") for i in range(171)),
            *(_masked("mixed", SOURCES["hle"].url, exam[i]) for i in range(256)),
            *(_masked("mixed", at, f"q{i}") for i in range(256)),
            *(_masked("high_entropy", BAMBOO, each) for each in dialogues),
        ]
    else:
        rows = [
            *(_masked("math", SOURCES["hle"].url, f"h{i}") for i in range(208)),
            *(_masked("summarization", SOURCES["cnn_dailymail"].url, f"c{i}", "{article}") for i in range(80)),
            *(_masked("reasoning", SOURCES["mtbench101"].url, f"m_{i}") for i in range(58)),
            *(
                _masked("multilingual", SOURCES["opus100"].url, f"opus100_de-en_{i}", "{question[de]}")
                for i in range(33)
            ),
            *(_masked("reasoning", SOURCES["mmlu_pro"].url, f"mmlu_pro_({i}, 'any')") for i in range(18)),
            *(_masked("rag", SOURCES["chatrag_bench"].url, f"c_{i}") for i in range(17)),
            *(_masked("coding", SOURCES["code_contests"].url, f"{i}_A", "{question}") for i in range(5)),
            *(_masked("coding", SOURCES["livecodebench"].url, f"test{i}.jsonl/0", "{question}") for i in range(2, 7)),
        ]
    missing = NUM_ROWS[config] - len(rows)
    rows += [
        _row("writing", [text(num_words(1000 * bucket or 200))], f"https://github.com/X-PLUG/WritingBench/{i}")
        for i in range(missing)
    ]
    for number, row in enumerate(rows):
        row["question_id"] = f"{number:032x}"
    return PublishedConfig(config, tuple(parse(row, config) for row in rows), {})


def _masked(category: str, source: str, src_id: str, pattern: str = "") -> dict[str, Any]:
    return _row(category, [f"{PLACEHOLDER}\n\n{pattern}" if pattern else PLACEHOLDER], source, src_id)


def _row(category: str, turns: list[str], source: str, src_id: str = "-") -> dict[str, Any]:
    common = {"sub_category": None, "difficulty": None, "multiturn": False}
    return {"question_id": "", "category": category, "turns": turns, "source": source, "src_id": src_id, **common}


def whole(config: str) -> dict[str, float]:
    """Seconds of a whole config, and what this process held at most."""
    library = Invented(int(config.removeprefix("throughput_").removesuffix("k")) if config != "qualitative" else 1)
    rows = published(config, library)
    for row in rows.rows:  # records are made before the clock starts: reading them is the library's
        if row.masked:
            [library.records(SOURCES[kind_of(row).source].folder, name) for name in _files(row)]
    count("")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    builder = prepare.Builder(PROMPTS, {"file_sha256": "00"})
    with tempfile.TemporaryDirectory() as folder:
        started, used = time.perf_counter(), time.process_time()
        with Partial(Path(folder) / "partial", "00") as partial:
            resolved = prepare.resolve(rows, builder, Records(library), partial, lambda *_: None)
        between = time.perf_counter()
        prepare.write(Path(folder) / "official", "1.1", config, resolved, builder, library)
        done, cpu_s = time.perf_counter(), time.process_time() - used
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "resolve_s": between - started,
        "whole_s": done - started,
        "cpu_s": cpu_s,
        "before_mb": before / 1024,
        "held_mb": held / 1024,
    }


def _files(row: Published) -> Sequence[str]:
    source = kind_of(row).source
    last = row.source.rpartition("/")[2]
    picked = [name for name in SOURCES[source].names if name.endswith(last)]
    return picked or (SOURCES[source].names if source != "opus100" else ["de-en/test"])


def compare(config: str, sample: int) -> dict[str, tuple[int, float, float]]:
    """Of each source: rows of the config, and milliseconds per row of ours and of one at a time."""
    library = Invented(int(config.removeprefix("throughput_").removesuffix("k")) if config != "qualitative" else 1)
    every = published(config, library)
    grouped: dict[str, list[Published]] = defaultdict(list)
    for row in every.rows:
        if row.masked:
            grouped[kind_of(row).source].append(row)
    measured = {}
    for source, rows in grouped.items():
        if source not in PLAIN:
            continue
        names = _files(rows[0])
        records = [dict(each.fields) for name in names for each in library.records(SOURCES[source].folder, name)]
        builder = prepare.Builder(PROMPTS, {"file_sha256": "00"})
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder, Partial(Path(folder) / "partial", "00") as partial:
            mine = PublishedConfig(config, tuple(rows), {})
            ours = prepare.resolve(mine, builder, Records(library), partial, lambda *_: None).rows
        ours_ms = 1000 * (time.perf_counter() - started) / len(rows)
        dataset, state = Dataset.from_list(records), {"draws": np.random.default_rng(42)}
        started = time.perf_counter()
        plain = [PLAIN[source](row, dataset, prepare.num_tokens_of(config), state) for row in rows[:sample]]
        plain_ms = 1000 * (time.perf_counter() - started) / len(plain)
        if [row.turns[0] for row in ours[:sample]] != plain:
            raise SystemExit(f"{source}: what is done one at a time differs from ours")
        measured[source] = (len(rows), ours_ms, plain_ms)
    return measured


def _by(table: pd.DataFrame, column: str, value: str) -> Any:
    return table[table[column] == value].iloc[0]


def plain_article(row: Published, source: Dataset, num_tokens: int | None, state: Mapping[str, Any]) -> str:
    return row.template.format(article=_by(source.to_pandas(), "id", row.src_id)["article"])


def plain_expert(row: Published, source: Dataset, num_tokens: int | None, state: Mapping[str, Any]) -> str:
    if num_tokens is None:
        return str(_by(source.to_pandas(), "id", row.src_id)["question"])
    halves = source.train_test_split(test_size=0.5, shuffle=True, seed=42)
    train = halves["train"].to_pandas()
    train = train[train["image"] == ""].copy()
    train["example"] = train.apply(lambda each: f"Q: {each['question']}\nA: {each['rationale']}\n\n", axis=1)
    train["tokens"] = train["example"].apply(encode)
    record = _by(halves["test"].to_pandas(), "id", row.src_id)
    ids, question = encode(f"Others of {record['category']}:\n\n"), encode(record["question"])
    examples = train[train["category"] == record["category"]]
    while len(ids) + len(question) < num_tokens:
        ids += list(examples.sample(1, random_state=state["draws"]).iloc[0]["tokens"])
    return decode(ids[: num_tokens - len(question) + 1] + question)


def plain_choice(row: Published, source: Dataset, num_tokens: int, state: Mapping[str, Any]) -> str:
    record = _by(source.to_pandas(), "question_id", row.src_id)
    answers, opening = list(record["all_answers"]), f"Choose.\n{record['question']}\n\n"
    spent, last = count(opening) + count("Which?\n") + count(f"A2:\n{answers[1]}\n\n"), 0
    for i, answer in enumerate(answers):
        if i != 1:
            if spent + count(f"A{i + 1}:\n{answer}\n\n") > num_tokens:
                break
            last = i
    chosen = answers[: last + 1] if last >= 1 else [answers[1] + answers[0]]
    random.seed(42)
    random.shuffle(chosen)
    prompt = opening + "".join(f"A{i + 1}:\n{answer}\n\n" for i, answer in enumerate(chosen)) + "Which?\n"
    ids = encode(prompt)
    if len(ids) < num_tokens:
        ids = encode(prompt + "Reply now.\n" * -(-(num_tokens - len(ids)) // count("Reply now.\n")))
    return decode(ids[:num_tokens])


PLAIN = {"cnn_dailymail": plain_article, "hle": plain_expert, "adaleval_stackselect": plain_choice}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("configs", nargs="*", metavar="CONFIG", help=f"of {', '.join(NUM_ROWS)}; all if none")
    arguments.add_argument("--sample", type=int, default=8, metavar="N", help="rows per source done one at a time")
    arguments.add_argument("--whole", metavar="CONFIG", help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.whole:
        print(json.dumps(whole(given.whole)))
        return
    os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
    console, configs = Console(width=110), given.configs or list(NUM_ROWS)
    table = Table("config", "rows", "resolve s", "whole s", "CPU s", "most held MB", "of which records MB")
    for config in configs:
        done = subprocess.run(
            [sys.executable, __file__, "--whole", config], stdout=subprocess.PIPE, text=True, check=True
        )
        said = json.loads(done.stdout.splitlines()[-1])
        figures = (*(f"{said[key]:.1f}" for key in ("resolve_s", "whole_s", "cpu_s")), f"{said['held_mb']:.0f}")
        table.add_row(config, f"{NUM_ROWS[config]:,}", *figures, f"{said['before_mb']:.0f}")
    console.print(table)
    table = Table("config", "source", "rows", "ours ms/row", "one at a time ms/row", "ratio")
    for config in configs:
        measured = compare(config, given.sample)
        for source, (number, ours, plain) in measured.items():
            table.add_row(config, source, str(number), f"{ours:.2f}", f"{plain:.1f}", f"{plain / ours:.0f}×")
        ours, plain = (sum(each[0] * each[i] for each in measured.values()) for i in (1, 2))
        table.add_row(
            config, "[bold]together", "", f"{ours / 1000:.1f} s", f"{plain / 1000:.1f} s", f"{plain / ours:.0f}×"
        )
    console.print(table)
    console.print(f"pandas {pd.__version__}; every row done one at a time is ours to the byte")


if __name__ == "__main__":
    main()
