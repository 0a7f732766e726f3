"""The Space of the module beside this file: paste its input as JSON, get its numbers, or what is wrong with the input.

The same file in each of our Spaces. The example it opens with is the JSON block of the card.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import evaluate
import gradio as gr

FOLDER = Path(__file__).parent
(CODE,) = FOLDER.glob("speed_bench_*.py")
MODULE = evaluate.load(str(CODE))
CARD = (FOLDER / "README.md").read_text("utf-8").split("---\n", 2)[2]
EXAMPLE = re.findall(r"```json\n(.*?)\n```", CARD, re.DOTALL)[0]

NO_INTERVAL = (None, None)

Row = tuple[str, float | None, float | None, float | None]


def score(text: str) -> tuple[list[Row], dict[str, object]]:
    """The numbers as rows of a table, and all that the module returns. What is refused is shown as a sentence."""
    try:
        given = json.loads(text)
    except json.JSONDecodeError as error:
        raise refusal(f"line {error.lineno}, column {error.colno} is no JSON: {error.msg}") from error
    if not isinstance(given, dict):
        raise refusal("the input is a JSON object: the arguments of compute by name")
    if absent := [name for name in MODULE.features if given.get(name) is None]:
        raise refusal(f"the input has no {', no '.join(absent)}")
    try:
        found = MODULE.compute(**given)
    except (ValueError, TypeError) as error:
        raise refusal(str(error)) from error
    return list(rows(found)), json.loads(json.dumps(found))


def rows(found: dict[str, object]) -> Iterator[Row]:
    """(name, value, low, high) of every number; a vector has a row per position, a distribution one for its mean."""
    intervals = found.get("confidence_interval") or {}
    for name, value in found.items():
        bounds = intervals.get(name)
        if isinstance(value, list):
            for position, one in enumerate(value):
                yield f"{name} at {position + 1}", one, *((bounds and bounds[position]) or NO_INTERVAL)
        elif isinstance(value, dict) and "mean" in value:
            yield f"{name} (mean)", value["mean"], *(bounds or NO_INTERVAL)
        elif value is None or isinstance(value, (int, float)):
            yield name, value, *(bounds or NO_INTERVAL)


def refusal(sentence: str) -> gr.Error:
    """What is shown instead of numbers, until it is closed."""
    return gr.Error(sentence, duration=None, print_exception=False)


with gr.Blocks(title=MODULE.name) as page:
    gr.Markdown(f"# {MODULE.name}\n\n{MODULE.description}")
    asked = gr.Code(EXAMPLE, language="json", label="arguments of compute, as JSON")
    button = gr.Button("compute", variant="primary")
    table = gr.Dataframe(
        headers=["value of", "value", "low", "high"], label="an empty cell: a value that does not exist"
    )
    answer = gr.JSON(label="all that compute returns")
    # One at a time: a module holds the input it computes from.
    button.click(score, asked, [table, answer], api_name="score", concurrency_limit=1)
    gr.Markdown(CARD)

if __name__ == "__main__":
    page.launch()
