"""What the datasets of the installed `vllm bench serve` make of files; run with its interpreter.

    .venv-vllm/bin/python read_prompts.py TOKENIZER < asked.json

reads a JSON list of lists of words, as they follow `vllm bench serve`, and prints a JSON list: the prompts of each in
the order in which they would be sent.
"""

import json
import sys


def main() -> None:
    """Through the command's own parser and its own choice of a dataset."""
    from vllm.benchmarks.datasets import get_samples
    from vllm.benchmarks.serve import add_cli_args
    from vllm.tokenizers import get_tokenizer
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    tokenizer = get_tokenizer(sys.argv[1])
    prompts = []
    for words in json.load(sys.stdin):
        parser = FlexibleArgumentParser()
        add_cli_args(parser)
        prompts.append([sample.prompt for sample in get_samples(parser.parse_args(words), tokenizer)])
    json.dump(prompts, sys.stdout)


if __name__ == "__main__":
    main()
