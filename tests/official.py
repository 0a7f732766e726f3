"""Masked rows of every kind, records for them, and a builder file of the official one's shape: all texts invented."""

import hashlib
import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import orjson

from speed_bench.data.official.prepare import Builder
from speed_bench.data.official.rows import PublishedConfig, parse
from speed_bench.data.schema import PLACEHOLDER
from speed_bench.data.sources import SOURCES
from speed_bench.data.sources.library import Record

BUILDER = '''
"""A builder that nobody runs."""
import random

TURNS_PLACEHOLDER = "FULL BENCHMARK DATA SHOULD BE FETCHED FROM THE SOURCE USING SPECDEC_BENCH"
raise SystemExit("this file is read, not run")


class Builder:
    @staticmethod
    def _generate_stackselect_prompt(question, answers, answer, num_tokens):
        random.seed(42)
        encoder = get_encoding()
        # a comment with "quotes"
        prompt = """
Pick the reply that helps most.   \\n"""
        prompt += "Asked:\\n"
        prompt += question + "\\n~\\n"
        prompt += "Replies:\\n"
        spent = len(encoder.encode(prompt))
        end_prompt = "Name the best one. \\n"
        end_prompt += "Say why.\\n"
        for i, answer in enumerate(answers):
            answer_to_add = f"A{i + 1} = {answer}\\n"
            prompt += answer_to_add
        prompt += end_prompt
        return prompt

    @staticmethod
    def _generate_textsort_prompt(prompt):
        original_instruction = "\\n  Put the parts in order. \\n"
        new_instruction = """
Write the parts out in order.  \\n"""
        return prompt.replace(original_instruction, new_instruction, 1)

    @staticmethod
    def _generate_writing_prompt(contents):
        content = "\\n--\\n".join([f"<{i + 1}>\\n{content}\\n</>" for i, content in enumerate(contents)])
        prompt = f"""
Carry these talks on. \\n
{content}
"""
        return prompt

    @staticmethod
    def _pad_or_truncate_prompt(prompt, target_num_tokens, padding="Go on, then.\\n"):
        return prompt

    @staticmethod
    def _generate_chatrag_bench_prompt(external_dataset):
        prompt = "Answer at length. \\n\\nGiven:\\n{context}\\n\\nAsked:\\n{question}"
        context = "\\n***\\n".join([ctx["text"] for ctx in external_dataset["ctxs"][0]])
        return [prompt.format(context=context, question="")]

    @staticmethod
    def _generate_coser_prompt(external_dataset):
        prompt = """Be {character} of {book_name}.
[{character}]
{character_profile}
[Where]
{scenario}
[Others]
{other_character_profiles_str}
[Wish]
{motivation}"""
        motivation = next((each["motivation"] for each in external_dataset), "nothing in particular")
        other_character_profiles_str = "\\n\\n".join(
            [f"{character_name}: {character_profile}" for character_name, character_profile in external_dataset]
        )
        return prompt.format(character=character)

    @staticmethod
    def _generate_mmlu_pro_prompt(external_dataset, subject):
        def get_question_and_options(question, options):
            options_str = "\\n".join([f"[{letter}] {option}" for letter, option in options])
            return f"Q: {question}\\nO: {options_str}\\n"

        prompt = "About {subject}. End with {{letter}}.\\n"
        return [prompt.format(subject=subject)]

    @staticmethod
    def _generate_hle_prompt(example, hle_train, num_tokens, rng):
        prompt = (
            "Answer the last one.\\n\\nFirst some others of "
            + example["category"]
            + ":\\n\\n"
        )
        return prompt

    def _fetch_all_turns_data(self, example, speed_config):
        hle_train["demonstration"] = hle_train.apply(
            lambda e: "Asked: " + e["question"] + "\\nTold: " + e["rationale"] + "\\n\\n", axis=1
        )
        hle_train["tokens"] = hle_train["demonstration"].apply(lambda e: encode(e))
'''
SHA256 = hashlib.sha256(BUILDER.encode()).hexdigest()
PADDING = "Go on, then.\n"

_HUB, _RAW = "https://huggingface.co/datasets", "https://raw.githubusercontent.com"
_WORDS = [
    "tide",
    "kettle",
    "bridge",
    "violin",
    "ferry",
    "beehive",
    "map",
    "lantern",
    "harbour",
    "slate",
    "orchard",
    "pulley",
    "magnet",
    "rook",
]


def prose(seed: str, num_words: int) -> str:
    """Words that nobody wrote, the same for the same seed."""
    draws = random.Random(seed)
    words = [draws.choice(_WORDS) + draws.choice(("", ",", ".", "\n", " – 潮", " {x}")) for _ in range(num_words)]
    return " ".join(words)


def talk(seed: str) -> dict[str, Any]:
    """What ChatRAG-Bench has of a dialogue."""
    said = [{"role": role, "content": prose(f"{seed}{i}", 9)} for i, role in enumerate(("user", "assistant", "user"))]
    return {"ctxs": [{"title": "-", "text": prose(f"{seed}c{i}", 20)} for i in range(3)], "messages": said}


def scene(seed: str, names: tuple[str, ...]) -> dict[str, Any]:
    """What CoSER has of one; the last name has no profile."""
    profiles = {name: prose(seed + name, 12) for name in names}
    return {
        "book": f"The {seed} Papers",
        "scenario": prose(seed, 15),
        "major_characters": list(names),
        "character_profiles": {**profiles, "A stranger": None},
        "key_characters": [{"name": name, "motivation": f"{name} wants {prose(name, 3)}"} for name in names[:-1]],
    }


def replies(number: int, right: int, lengths: Iterable[int]) -> dict[str, Any]:
    """What Ada-LEval has of a question with replies of so many words."""
    answers = [prose(f"{number}/{i}", length) for i, length in enumerate(lengths)]
    return {
        "question_id": f"q{number}",
        "question": prose(f"q{number}", 9),
        "all_answers": answers,
        "answer": f"A{right}",
    }


def expert(number: int) -> dict[str, Any]:
    """What Humanity's Last Exam has of a question; some have an image."""
    return {
        "id": f"h{number:03}",
        "question": prose(f"h{number}", 8 + number % 5),
        "image": "data:image/png;base64,AA" if number % 7 == 3 else "",
        "rationale": prose(f"r{number}", 20),
        "category": ("Tides", "Clocks")[number % 2],
    }


RECORDS: dict[tuple[str, str], list[Any]] = {
    ("bamboo", "datasets/showspred_4k.jsonl"): [{"content": prose(f"b{i}", 60), "answer": "-"} for i in range(12)],
    ("cnn_dailymail", "3.0.0/test"): [{"id": f"c{i}", "article": prose(f"c{i}", 30)} for i in range(3)],
    ("hle", "default/test"): [expert(number) for number in range(40)],
    ("livecodebench", "test.jsonl"): [
        {"question_id": f"lcb_{i}", "question_content": prose(f"l{i}", 9), "starter_code": "def f():\n    "}
        for i in range(2)
    ],
    ("livecodebench", "test2.jsonl"): [{"question_id": "lcb_9", "question_content": "Nine?", "starter_code": ""}],
    ("code_contests", "default/test"): [{"name": "15_B. Ferry?", "description": prose("cc", 12)}],
    ("mtbench101", "data/subjective/mtbench101.jsonl"): [
        {"task": "GR", "id": i, "history": [{"user": prose(f"m{i}{j}", 5), "bot": "-"} for j in range(1 + i)]}
        for i in range(3)
    ],
    ("opus100", "de-en/test"): [{"translation": {"de": f"Satz {i}.", "en": f"Sentence {i}."}} for i in range(3)],
    ("chatrag_bench", "hybridial/test"): [talk("h0"), talk("h1")],
    ("chatrag_bench", "sqa/test"): [talk("s0")],
    ("mmlu_pro", "default/test"): [
        {"question": prose(f"p{i}", 7), "options": [f"{o} {i}" for o in _WORDS[: 3 + i]], "category": "tides"}
        for i in range(5)
    ],
    ("adaleval", "data/stackselect_1k.json"): [
        replies(0, 3, (20, 30, 25, 15, 40)),
        replies(1, 4, (20, 3000, 25, 15)),
        replies(2, 1, (900, 30, 3000, 20)),
        replies(3, 2, (3000, 10, 10)),
    ],
    ("adaleval", "data/textsort_1k.json"): [
        {"prompt": f"\n  Put the parts in order. \n{prose(f't{i}', length)}"} for i, length in enumerate((30, 2000))
    ],
    ("rolebench", "rolebench-eng/role-generalization/role_specific/test.jsonl"): [
        {"role": "Harbour Master", "question": question, "generated": ["-"], "type": "-"}
        for question in (
            "When is high water?",
            "Harbour Master, who rang the bell?",
            " Harbour Master, why?",
            "And now?",
        )
    ],
    ("coser", "test/test_set.json"): [scene("Slate", ("Ada", "Ben", "Cleo")), scene("Rook", ("Dov", "Ada"))],
}
OBJECTS = {("rolebench", "profiles-eng/desc.json"): {"Harbour Master": "Gruff. Says {tide} a lot."}}


class Memory:
    """A library of records that are at hand."""

    def __init__(self, records: Mapping[tuple[str, str], list[Any]] = RECORDS) -> None:
        self.given = dict(records)
        self.parsed: list[tuple[str, str]] = []
        self._kept: dict[tuple[str, str], tuple[Record, ...]] = {}

    def files(self, source: str) -> tuple[str, ...]:
        return tuple(file for folder, file in (*self.given, *OBJECTS) if folder == source)

    def records(self, source: str, file: str) -> tuple[Record, ...]:
        key = (source, file)
        if key not in self._kept:
            self.parsed.append(key)
            self._kept[key] = tuple(Record(source, file, number, row) for number, row in enumerate(self.given[key]))
        return self._kept[key]

    def text(self, source: str, file: str) -> str:
        return orjson.dumps(OBJECTS[source, file]).decode()

    def facts(self, source: str) -> dict[str, Any]:
        return {"files": {file: {"sha256": self._sha256(source, file)} for file in self.files(source)}}

    def check_access(self, sources: Iterable[str]) -> None:
        """All of it is at hand."""

    def _sha256(self, source: str, file: str) -> str:
        content = self.given.get((source, file)) or OBJECTS[source, file]
        return hashlib.sha256(orjson.dumps(content)).hexdigest()


def write_mirror(folder: Path, records: Mapping[tuple[str, str], list[Any]] = RECORDS) -> Path:
    """The records as a mirror; splits of Hub datasets in the files in which such are published."""
    listed = []
    for (source, file), content in {**records, **OBJECTS}.items():
        path = folder / source / (file if "." in file.rpartition("/")[2] else f"{file}-00000-of-00001.jsonl")
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.suffix == ".jsonl"
        path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in content) if lines else orjson.dumps(content))
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        listed.append({"path": path.relative_to(folder).as_posix(), "sha256": sha256})
    (folder / "MANIFEST.json").write_bytes(orjson.dumps({"files": listed}))
    return folder


def masked(source: str, src_id: str, turns: int = 1, template: str | None = None, **changes: Any) -> dict[str, Any]:
    """A published row without its prompt."""
    first = PLACEHOLDER if template is None else f"{PLACEHOLDER}\n\n{template}"
    name = hashlib.sha256(f"{source} {src_id} {turns} {template}".encode()).hexdigest()[:32]
    row = {"question_id": name, "category": "qa", "sub_category": None, "turns": [first, *[PLACEHOLDER] * (turns - 1)]}
    return {**row, "source": source, "src_id": src_id, "difficulty": None, "multiturn": turns > 1, **changes}


def plain(number: int) -> dict[str, Any]:
    """A published row with its prompt."""
    return {
        "question_id": f"{number:032x}",
        "category": "qa",
        "sub_category": None,
        "turns": [f"Question {number}: which way does the ferry go?"],
        "source": f"{_RAW}/hemingkx/Spec-Bench/66230f10000000000000000000000000000000aa/data/spec_bench/question.jsonl",
        "src_id": f"spec_bench_{number}",
        "difficulty": None,
        "multiturn": False,
    }


def _at(source: str) -> str:
    return SOURCES[source].url


QUALITATIVE = [
    *(masked(_at("cnn_dailymail"), f"c{i}", template="Sum {{up}}:\n{article}") for i in range(3)),
    *(masked(_at("hle"), f"h{i:03}") for i in (0, 3, 39)),
    *(masked(_at("livecodebench"), each, template="{question}\n{starter_code}") for each in ("lcb_1", "lcb_9")),
    masked(_at("code_contests"), "15_B. Ferry?", template="Solve: {question}"),
    *(masked(_at("mtbench101"), f"mtbench_101_{i}") for i in range(3)),
    masked(_at("opus100"), "opus100_de-en_1", template="To English: {question[de]}"),
    masked(_at("opus100"), "opus100_de-en_2", template="To English: {question}"),
    *(masked(_at("chatrag_bench"), f"chatrag_bench_{i}") for i in range(3)),
    *(
        masked(_at("mmlu_pro"), f"mmlu_pro_({i}, 'tides')", turns, sub_category="tides")
        for i, turns in ((0, 1), (1, 4))
    ),
    masked(
        _at("rolebench"),
        "rolebench_role-generalization_0_1_2_3",
        3,
        "Be {role_name}: {role_description_and_catchphrases}",
    ),
    *(masked(_at("coser"), f"coser_{i}") for i in range(2)),
]
"""One row and more of every kind that the qualitative config has."""
_ADALEVAL = "http://opencompass.openxlab.space/utils/AdaLEval"
_DIALOGUES = "https://github.com/RUCAIBox/BAMBOO/blob/main/datasets/showspred_4k.jsonl"


def throughput() -> list[dict[str, Any]]:
    """One row and more of every kind that a config of 1,000 tokens has."""
    return [
        *(masked(_DIALOGUES, f"bamboo{ids}") for ids in ("_1", "_2_3_4", "_0_5_6_7_8_9_10_11")),
        *(masked(f"{_ADALEVAL}/stackselect_1k.json", f"q{i}") for i in range(4)),
        *(masked(f"{_ADALEVAL}/textsort_1k.json", f"textsort_{i}") for i in range(2)),
        *(masked(_at("hle"), name) for name in asked()[:6]),
    ]


def asked() -> list[str]:
    """Ids of the half of the exam that is asked, in the order of the exam."""
    from datasets import Dataset

    exam = RECORDS["hle", "default/test"]
    halves = Dataset.from_list(exam).train_test_split(test_size=0.5, shuffle=True, seed=42)
    return sorted(halves["test"]["id"])


def config(name: str, rows: Iterable[dict[str, Any]]) -> PublishedConfig:
    """A published config of these rows."""
    return PublishedConfig(name, tuple(parse(row, name) for row in rows), {"rows.parquet": "00"})


def builder() -> Builder:
    """The invented one."""
    return Builder.of(BUILDER.encode())
