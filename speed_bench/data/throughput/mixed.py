"""The tier `mixed`: answers to be ranked, and questions after solved ones. Some of what comes next is there already."""

import string
from collections import defaultdict
from typing import Final

from speed_bench.data.candidates.candidate import has, malformed, text, texts
from speed_bench.data.throughput.families import Family, Target
from speed_bench.data.throughput.pieces import Draft, measured, part
from speed_bench.data.throughput.stock import Stock, material

_RANK_HEAD: Final = "These are questions that programmers asked, each with the answers it got.\n\n"
_RANK: Final = (
    "=== What to do ===\nFor every question above, in turn, rank its answers from the most to the least helpful, by "
    "their numbers, and say in two or three sentences what makes the first one better than the second."
)
_SOLVE: Final = "Solve the last question as the others were solved, and explain the steps that lead to the answer."


def stackselect(stock: Stock) -> list[Family]:
    """Ada-LEval's questions of Stack Overflow, each with all its answers; every one of them is to be ranked."""
    drafts = []
    for record in stock.records("adaleval_stackselect", "stackselect"):
        question = text(record, "question")
        answers = texts(record, "all_answers")
        parts = [part("=== Question ===", question)]
        parts += [part(f"Answer {number}:", answer) for number, answer in enumerate(answers, 1)]
        src_id = f"stackselect_{text(record, 'question_id')}"
        drafts.append(Draft(src_id, tuple(parts), question))
    if not drafts:
        return []
    pool = measured(drafts)
    family = Family(
        name="adaleval/stackselect",
        source="adaleval_stackselect",
        head=_RANK_HEAD,
        request=_RANK,
        pool=pool,
        material=material(pool),
    )
    return stock.enough([family])


def mmlu_pro(stock: Stock) -> list[Family]:
    """Multiple-choice questions of one subject with their answers, then one of the subject without."""
    solved: dict[str, list[Draft]] = defaultdict(list)
    asked: dict[str, list[Target]] = defaultdict(list)
    for record in stock.records("mmlu_pro"):
        subject, question = text(record, "category"), text(record, "question")
        options = texts(record, "options")
        if len(options) > len(string.ascii_uppercase):
            raise malformed(record, f"{len(options)} options are more than there are letters")
        named = zip(string.ascii_uppercase, options, strict=False)
        lettered = "\n".join(f"{letter}. {option}" for letter, option in named)
        answer = f"Answer: {text(record, 'answer')}"
        if has(record, "cot_content"):
            answer = f"{text(record, 'cot_content').strip()}\n{answer}"
        asks = f"{question.strip()}\n{lettered}"
        src_id = f"mmlu_pro_{record.row}"
        solved[subject].append(Draft(src_id, (part("=== Question ===", f"{asks}\n{answer}"),), question))
        asked[subject].append(Target(src_id, part("=== Question ===", asks).text, question))
    return _expert(stock, "mmlu_pro", solved, asked)


def hle(stock: Stock) -> list[Family]:
    """Questions of Humanity's Last Exam with their reasoning, then one of the same category; none with a picture."""
    solved: dict[str, list[Draft]] = defaultdict(list)
    asked: dict[str, list[Target]] = defaultdict(list)
    for record in stock.records("hle"):
        if has(record, "image"):
            continue
        subject, question, src_id = text(record, "category"), text(record, "question"), text(record, "id")
        asked[subject].append(Target(src_id, part("=== Question ===", question).text, question))
        if has(record, "rationale"):
            whole = f"{question.strip()}\nReasoning: {text(record, 'rationale').strip()}"
            solved[subject].append(Draft(src_id, (part("=== Question ===", whole),), question))
    return _expert(stock, "hle", solved, asked)


def _expert(stock: Stock, source: str, solved: dict[str, list[Draft]], asked: dict[str, list[Target]]) -> list[Family]:
    families = []
    for subject, drafts in sorted(solved.items()):
        pool = measured(drafts)
        once = {target.key: target for target in asked[subject]}
        families.append(
            Family(
                name=f"{source}/{subject}",
                source=source,
                head=f"These are exam questions in {subject}, solved but for the last one.\n\n",
                request=_SOLVE,
                pool=pool,
                material=material(pool),
                targets=stock.targets(once.values()),
            )
        )
    return stock.enough(families)
