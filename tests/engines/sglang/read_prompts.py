"""What the datasets of the installed `sglang.bench_serving` make of files; run with its interpreter.

    .venv-sglang/bin/python read_prompts.py TOKENIZER < asked.json

reads a JSON list of objects, the options that a dataset takes from the command line, and prints a JSON list: of each
the prompts, what goes into the body of their requests beside them, and whether they are replayed turn by turn.
"""

import json
import os
import sys
from argparse import Namespace

DEFAULTS = {"sharegpt_output_len": None, "dataset_offset": 0, "agentic_max_turns": None}
"""Of the options that these datasets take."""


def main() -> None:
    """Through its own choice of a dataset, and its own test for rows of several turns."""
    os.environ["SGLANG_USE_CPU_ENGINE"] = "1"
    from sglang.benchmark.datasets import get_dataset
    from sglang.benchmark.serving import _normalize_round_messages
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
    answers = []
    for options in json.load(sys.stdin):
        rows = get_dataset(Namespace(**{**DEFAULTS, **options}), tokenizer)
        first = rows[0].prompt
        answers.append(
            {
                "prompts": [row.prompt for row in rows],
                "extra": [row.extra_request_body for row in rows],
                "turn_by_turn": isinstance(first, list) and _normalize_round_messages(first[0]) is not None,
            }
        )
    json.dump(answers, sys.__stdout__)


if __name__ == "__main__":
    main()
