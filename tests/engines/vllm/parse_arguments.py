"""What the installed vLLM makes of command lines; run with its interpreter.

    .venv-vllm/bin/python parse_arguments.py < argvs.json

reads a JSON list of lists of words, as they follow `python -m vllm.entrypoints.openai.api_server`, and prints a JSON
object: `parsed`, the settings of each that its own parser sets, or a string that says why not; `methods` and `keys`,
what its `speculative_config` may hold.
"""

import dataclasses
import json
import sys
from typing import Any, get_args

from vllm.config.speculative import SpeculativeConfig, SpeculativeMethod
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser


def methods(literal: Any) -> set[str]:
    """All words of a literal type that is made of others."""
    return {word for arg in get_args(literal) for word in (methods(arg) if get_args(arg) else {arg})}


def parsed(words: list[str]) -> dict[str, Any] | str:
    """The settings that a command line sets, or why it is refused."""
    parser = make_arg_parser(FlexibleArgumentParser(exit_on_error=False))
    try:
        given, default = vars(parser.parse_args(words)), vars(parser.parse_args([]))
    except (Exception, SystemExit) as error:
        return f"refused: {error}"
    return {name: value for name, value in given.items() if value != default[name]}


json.dump(
    {
        "parsed": [parsed(words) for words in json.load(sys.stdin)],
        "methods": sorted(methods(SpeculativeMethod)),
        "keys": sorted(field.name for field in dataclasses.fields(SpeculativeConfig)),
    },
    sys.stdout,
    default=str,
)
