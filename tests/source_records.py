"""Records, invented, in the published schema of every source that candidates are made from, and mirrors that hold them.

Nothing of the sources stands here: the texts are about a made-up harbour.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

THINGS = ("lantern", "capstan", "mooring", "tide table", "ferry", "sluice", "buoy", "pilot boat", "signal mast", "quay")


def paragraph(number: int, num_words: int = 60) -> str:
    """Prose that differs with its number in nearly every phrase."""
    words = (f"{THINGS[(number + place) % len(THINGS)]} {number * 37 + place}" for place in range(num_words // 2))
    return " ".join(words) + "."


def question(number: int) -> str:
    """One that no other number has."""
    thing, other = THINGS[number % 10], THINGS[number // 10 % 10]
    return f"Why did keeper {number} move the {thing} beyond the {other} before gale number {number * 7}?"


def _mmlu(number: int, category: str) -> dict[str, Any]:
    options = [f"Because the {thing} of berth {number} was {place}" for place, thing in enumerate(THINGS[:4])]
    return {"question_id": number, "question": question(number), "options": options, "category": category}


def _play(number: int, role: str) -> dict[str, Any]:
    return {"role": role, "question": question(number), "generated": ["aye"], "type": "script_based"}


def _scene(number: int, mind: str) -> dict[str, Any]:
    return {
        "book": f"The Harbour, part {number}",
        "scenario": paragraph(number),
        "major_characters": ["Mate", "Cook"],
        "character_profiles": {"Mate": "Knows every rope.", "Cook": "Sings too loudly.", "Absent": None},
        "key_characters": [{"name": "Mate", mind: "wants to sail"}, {"name": "Cook", mind: "wants to stay"}],
    }


def _dialogue(number: int, num_turns: int) -> dict[str, Any]:
    messages = []
    for turn in range(num_turns):
        messages.append({"role": "user", "content": question(number + turn)})
        messages.append({"role": "assistant", "content": "aye"})
    return {"messages": messages[:-1], "ctxs": [{"title": "log", "text": paragraph(number)}], "answers": ["aye"]}


def _clapnq(number: int) -> dict[str, Any]:
    return {"id": str(number), "input": question(number), "passages": [{"title": "log", "text": paragraph(number)}]}


_SPEC = ("writing", "roleplay", "reasoning", "math", "coding", "extraction", "stem", "humanities")
_HLE = ("Math", "Physics", "Humanities/Social Science", "Other")
_TWO = {"de": "Der Lotse bringt das Schiff bei Nebel sicher durch die enge Fahrrinne zum Kai."} | {
    "en": "In fog the pilot brings the ship safely through the narrow channel to the quay."
}
_BOOK = "\n\n".join(
    (
        *("Preface", "*** START OF THIS BOOK ***", "Contents", "CHAPTER 1. Ebb", "CHAPTER 2. Flood"),
        *("CHAPTER 1. Ebb", *(paragraph(900 + n) for n in range(20))),
        *("CHAPTER 2. Flood", *(paragraph(950 + n) for n in range(20))),
        *("*** END OF THIS BOOK ***", "Licence"),
    )
)

RECORDS: Mapping[str, list[Any] | dict[str, Any] | str] = {
    "spec_bench/question.jsonl": [
        *(
            {"question_id": 81 + n, "category": name, "turns": [question(n), f"And {THINGS[n]}?"]}
            for n, name in enumerate(_SPEC)
        ),
        {"question_id": 161, "category": "translation", "turns": [question(20)]},
        {"question_id": 241, "category": "summarization", "turns": [paragraph(21)]},
        {"question_id": 321, "category": "qa", "turns": [question(22)]},
        {"question_id": 401, "category": "math_reasoning", "turns": [question(23)]},
        {"question_id": 402, "category": "math_reasoning", "turns": [question(24)]},
        {"question_id": 481, "category": "rag", "turns": [paragraph(25)]},
    ],
    "humanevalpack/data/go/data/humanevalpack.jsonl": [
        {
            "task_id": f"Go/{n}",
            "prompt": f"// {question(100 + n)}\nfunc F{n}() {{\n",
            "buggy_solution": "\treturn 0\n}\n",
        }
        for n in range(3)
    ],
    "livecodebench/test.jsonl": [
        {"question_id": "7_A", "question_content": question(110), "starter_code": "", "difficulty": "easy"},
        {"question_id": "9", "question_content": question(111), "starter_code": "class S:", "difficulty": "hard"},
    ],
    "code_contests/default/test.jsonl": [
        {"name": "12_C. Locks", "description": question(120), "difficulty": 9},
        {"name": "12_K. Dykes", "description": question(121), "difficulty": 17},
        {"name": "12_D. Maps", "description": "See <image>", "difficulty": 9},
    ],
    "hle/default/test.jsonl": [
        {"id": f"h{n}", "question": question(130 + n), "image": "", "category": name, "raw_subject": "Tides"}
        for n, name in enumerate(_HLE)
    ]
    + [{"id": "h9", "question": question(139), "image": "data:…", "category": "Math", "raw_subject": "Tides"}],
    "gsm8k/test.jsonl": [{"question": question(140 + n), "answer": "7"} for n in range(5)],
    **{
        f"mmath/mmath/{code}.json": [
            {"question": f"{code}: {question(150 + n)}", "lang": code, "gid": n, "data_source": "MATH500"}
            for n in range(12)
        ]
        for code in ("en", "ar", "es", "fr", "ja", "ko", "pt", "th", "vi", "zh")
    },
    "mmlu_pro/default/test.jsonl": [
        *(_mmlu(200 + n, "history") for n in range(12)),
        *(_mmlu(220 + n, "physics") for n in range(12)),
        *(_mmlu(240 + n, "math") for n in range(12)),
        *(_mmlu(260 + n, "business") for n in range(6)),
        {"question_id": 1, "question": "Only one?", "options": ["Yes"], "category": "business"},
    ],
    "adaleval/data/stackselect_1k.json": [
        {"question_id": "31", "question": f"\n{question(270)}\n", "all_answers": ["No."], "answer": "A1"},
        {"question_id": "32", "question": "long " * 100, "all_answers": ["No."], "answer": "A1"},
    ],
    "mtbench101/data/subjective/mtbench101.jsonl": [
        {
            "task": task,
            "id": n,
            "history": [{"user": question(280 + 2 * n), "bot": "aye"}, {"user": "So?", "bot": "aye"}],
        }
        for n, task in enumerate(("GR", "MR", "CM"))
    ],
    "opus100/de-en/test.jsonl": [
        {"translation": _TWO},
        {"translation": _TWO},
        {"translation": {"de": "Ja", "en": "Yes"}},
    ],
    "writingbench/benchmark_query/benchmark_all.jsonl": [
        {"index": 4, "query": question(290), "domain1": "Education", "domain2": "Letters"},
        {"index": 5, "query": "写一篇关于港口的短文", "domain1": "Education", "domain2": "Letters"},
    ],
    "creative_writing_v3/data/creative_writing_prompts_v3.json": {
        "1": {"category": "sea tale", "writing_prompt": "Tell of a gale. <SEED>", "seed_modifiers": ["Short.", "Long."]}
    },
    "rolebench/rolebench-eng/role-generalization/role_specific/test.jsonl": [
        *(_play(300 + n, "Pilot") for n in range(6)),
        *(_play(310 + n, "Smith") for n in range(2)),
    ],
    "rolebench/profiles-eng/desc.json": {"Pilot": "A pilot who has never lost a ship."},
    "coser/test/test_set.json": [_scene(320, "motivation"), _scene(321, "thought")],
    "chatrag_bench/sqa/test.json": [_dialogue(330, 1), _dialogue(330, 2)],
    "chatrag_bench/hybridial/test.json": [_dialogue(340, 6), _dialogue(350, 3)],
    "clapnq/annotated_data/dev/clapnq_dev_answerable.jsonl": [_clapnq(360 + n) for n in range(10)],
    "cnn_dailymail/3.0.0/test.jsonl": [
        {"id": f"{n:040x}", "article": paragraph(400 + n), "highlights": "…"} for n in range(13)
    ],
    "bamboo/datasets/showspred_4k.jsonl": [
        {"content": "\n".join([*(paragraph(500 + n, 40) for n in range(30)), '"Aye" said by ']), "answer": "Mate"}
    ],
    "gutenberg/harbour_99.txt": _BOOK,
}
"""`<source>/<upstream path>` -> its records, or its text."""


def write_mirror(folder: Path, files: Mapping[str, Any] = RECORDS) -> Path:
    """A mirror of these files: lists as JSON or JSON lines by the name, text as it is."""
    listed = []
    for name, content in files.items():
        if isinstance(content, str):
            data = content.encode()
        elif name.endswith(".jsonl"):
            data = b"".join(orjson.dumps(record) + b"\n" for record in content)
        else:
            data = orjson.dumps(content)
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        listed.append({"path": name, "sha256": hashlib.sha256(data).hexdigest()})
    (folder / "MANIFEST.json").write_bytes(orjson.dumps({"files": listed}))
    return folder
