"""What the installed GuideLLM makes of files; run with its interpreter.

    .venv-guidellm/bin/python read_guidellm.py < asked.json

reads a JSON list of paths, and prints a JSON list: of each the conversations, each as the texts of its turns and for
every turn what it carries of the one before (`full`: the whole history).
"""

import asyncio
import json
import sys
from typing import Any


async def conversations(path: str) -> list[Any]:
    """Through its own deserializer, column mapper, finalizer and loader, each as its command has it by default."""
    from guidellm.data import create_data_loader
    from guidellm.schemas.benchmark import BenchmarkArgs

    args = BenchmarkArgs.model_validate(
        {
            "backend": {"kind": "openai_http", "target": "http://127.0.0.1:9", "model": "none"},
            "profile": {"kind": "synchronous"},
            "data": [{"kind": "json_file", "path": path}],
            "tokenizer": {"kind": "huggingface_auto", "model": "none"},  # nothing here counts tokens
        }
    )
    loader = await create_data_loader(
        loader_config=args.data_loader,
        data_config=args.data,
        tokenizer_config=args.tokenizer,
        column_mapper_config=args.data_column_mapper,
        preprocessors_config=args.data_preprocessors,
        finalizer_config=args.data_finalizer,
    )
    found = []
    for graph in loader:
        turns = [node.request.columns["text_column"] for node in graph.nodes.values()]
        found.append([turns, [edge.history_context for edge in graph.edges]])
    return found


def main() -> None:
    """All files, one after the other."""
    json.dump([asyncio.run(conversations(path)) for path in json.load(sys.stdin)], sys.stdout)


if __name__ == "__main__":
    main()
