"""Programming tasks: HumanEvalPack in six languages, and the problems of contests."""

import re
from collections.abc import Iterator, Sequence
from typing import Final

from speed_bench.data.candidates.candidate import Candidate, candidate, dealt, framed, has, malformed, row_id, text
from speed_bench.data.sources.library import Record

LANGUAGES: Final = {
    "Python": ("python", "Python"),
    "Go": ("go", "Go"),
    "JavaScript": ("javascript", "JavaScript"),
    "Java": ("java", "Java"),
    "CPP": ("cpp", "C++"),
    "Rust": ("rust", "Rust"),
}
"""What a task_id of HumanEvalPack begins with -> sub_category, name."""

_COMPLETE: Final = (
    ("Finish this {language} function and reply with the whole of it.", ""),
    ("", "Write the missing body of this {language} function, then say in two sentences how it works."),
    ("I have the signature and the comment of a {language} function. Please implement it.", ""),
)
_REPAIR: Final = (
    ("This {language} function does not do what its comment says. Find the mistake and correct it.", ""),
    ("", "The {language} code above has a bug. Explain it and show the repaired function."),
)
_SOLVE: Final = (
    ("Solve this problem in Python.", ""),
    ("", "Write a Python program that solves the problem above, and explain why it is fast enough."),
    ("Here is a task from a programming contest. Think about the limits first, then solve it in Python.", ""),
)
_START: Final = "Begin from this code:"


def humanevalpack(records: Sequence[Record]) -> Iterator[Candidate]:
    """A third of the tasks as published (the bare beginning of a function), a third with a request to complete it, a
    third with a faulty body to repair; which one goes by task and language, so that a task differs between languages.
    """
    for record in records:
        task_id = text(record, "task_id")
        prefix, _, task = task_id.partition("/")
        if prefix not in LANGUAGES or not task.isdecimal():
            raise malformed(record, f"task_id '{task_id:.40}' is not one of {', '.join(LANGUAGES)} and a number")
        sub_category, language = LANGUAGES[prefix]
        prompt = text(record, "prompt")
        question_id = row_id("coding", "humanevalpack", task_id)
        kind = (int(task) + list(LANGUAGES).index(prefix)) % 3
        if kind == 0:
            held, turn = prompt, prompt
        elif kind == 1:
            held = prompt
            turn = framed(dealt(_COMPLETE, question_id), _block(sub_category, prompt), language=language)
        else:
            held = prompt + text(record, "buggy_solution")
            turn = framed(dealt(_REPAIR, question_id), _block(sub_category, held), language=language)
        yield candidate("coding", "humanevalpack", task_id, (turn,), texts=(held,), sub_category=sub_category)


def livecodebench(records: Sequence[Record]) -> Iterator[Candidate]:
    """Problems under a request to solve them in Python, from the given code where there is some."""
    for record in records:
        src_id = text(record, "question_id")
        problem = text(record, "question_content")
        question_id = row_id("coding", "livecodebench", src_id)
        start = [_START, _block("python", text(record, "starter_code"))] if has(record, "starter_code") else []
        turn = framed(dealt(_SOLVE, question_id), problem.strip(), *start)
        yield candidate(
            "coding",
            "livecodebench",
            src_id,
            (turn,),
            texts=(problem,),
            sub_category="python",
            difficulty=text(record, "difficulty"),
        )


def code_contests(records: Sequence[Record]) -> Iterator[Candidate]:
    """The same for CodeContests, as published or as in the copy that sets the description into a docstring.

    Problems with pictures are left out: their text is not whole.
    """
    for record in records:
        name, problem = _problem(record)
        if "<image>" in problem:
            continue
        question_id = row_id("coding", "code_contests", name)
        turn = framed(dealt(_SOLVE, question_id), problem.strip())
        yield candidate(
            "coding",
            "code_contests",
            name,
            (turn,),
            texts=(problem,),
            sub_category="python",
            difficulty=letter_difficulty(name),
        )


def letter_difficulty(name: str) -> str | None:
    """Of a contest problem, by its letter: A to I easy, J to Q medium, R to Z hard (arXiv 2604.09557).

    >>> letter_difficulty("1580_E. Railway Construction"), letter_difficulty("12_K2. Maze"), letter_difficulty("Maze")
    ('easy', 'medium', None)
    """
    letter = re.match(r"\d+_([A-Z])\d*\. ", name)
    if letter is None:
        return None
    return "easy" if letter[1] <= "I" else "medium" if letter[1] <= "Q" else "hard"


def _problem(record: Record) -> tuple[str, str]:
    if has(record, "description"):
        return text(record, "name"), text(record, "description")
    meta = record.fields.get("meta_data")
    name = meta.get("task_name") if isinstance(meta, dict) else None
    docstring = re.match(r"'''\n(.*?)\n'''\n", text(record, "prompt"), re.DOTALL)
    if not isinstance(name, str) or docstring is None:
        raise malformed(record, "neither name and description, nor meta_data.task_name and a docstring in prompt")
    return name, docstring[1]


def _block(language: str, code: str) -> str:
    fence = "```"
    while fence in code:
        fence += "`"
    return f"{fence}{language}\n{code.strip(chr(10))}\n{fence}"
