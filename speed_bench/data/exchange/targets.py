"""The files that other tools read: what each holds of a row, and how to point the tool at it.

Every one holds the raw text of the user's turns. The chat template is the tool's or the server's to apply, and the
answers between the turns are the model's own, or nobody's where a tool sends one turn per row.
"""

import io
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import orjson

from speed_bench.data.configs import NUM_ROWS
from speed_bench.types import Conversation

Rows = Sequence[Conversation]


@dataclass(frozen=True, slots=True)
class Target:
    """A tool that benchmarks, and the file that it reads."""

    name: str
    reader: str
    """The tool, with the options that make it read the file."""
    suffixes: tuple[str, ...]
    """What the name of the file must end in; empty: it is a folder."""
    all_turns: bool
    """Whether the file can hold more than one turn of a conversation."""
    keeps: str
    """Of the columns other than the turns."""
    render: Callable[[Rows], bytes]
    usage: Callable[[Path, str, int], str]
    """The command, given the path, the config and how many rows there are."""
    note: str = ""
    """What the tool does with the file that one would not expect."""


def _lines(records: Iterable[Any]) -> bytes:
    return b"".join(orjson.dumps(record) + b"\n" for record in records)


def _columns(row: Conversation) -> dict[str, Any]:
    return {**asdict(row), "turns": list(row.turns)}


def _skills(rows: Rows) -> bytes:
    def record(row: Conversation) -> dict[str, Any]:
        columns = _columns(row)
        turns = columns.pop("turns")
        return {**columns, "messages": [{"role": "user", "content": turn} for turn in turns]}

    return _lines(record(row) for row in rows)


def _sglang(rows: Rows) -> bytes:
    """An agentic trace: of each turn the messages that are new in it. The metadata are ours, the reader skips them."""
    metadata = {"question_ids": [row.question_id for row in rows], "categories": [row.category for row in rows]}
    conversations = [[{"messages": [{"role": "user", "content": turn}]} for turn in row.turns] for row in rows]
    return orjson.dumps({"metadata": metadata, "conversations": conversations}) + b"\n"


def _aiperf(rows: Rows) -> bytes:
    return _lines(
        {"type": "multi_turn", "session_id": row.question_id, "turns": [{"text": turn} for turn in row.turns]}
        for row in rows
    )


def _guidellm(rows: Rows) -> bytes:
    """`prompt`, or where a row has several turns, all as GuideLLM's own form of a conversation, packed as JSON."""
    if not any(row.multiturn for row in rows):
        return _lines({"prompt": row.turns[0], "question_id": row.question_id} for row in rows)

    def turn(number: int, text: str) -> dict[str, Any]:
        parents = [{"parent_node_id": f"turn_{number - 1}", "history_context": "full"}] * (number > 0)
        return {"node_id": f"turn_{number}", "parents": parents, "columns": {"text_column": [text]}}

    def graph(row: Conversation) -> str:
        turns = [turn(number, text) for number, text in enumerate(row.turns)]
        return orjson.dumps({"graph_id": row.question_id, "turns": turns}).decode()

    return _lines({"conversation_turns": graph(row), "question_id": row.question_id} for row in rows)


def _parquet(rows: Rows) -> bytes:
    from speed_bench.data.tables import write_rows

    sink = io.BytesIO()
    write_rows(rows, sink)
    return sink.getvalue()


def _vllm_usage(path: Path, _: str, num: int) -> str:
    return f"vllm bench serve --dataset-name custom --dataset-path {_q(path)} --num-prompts {num} --disable-shuffle"


def _sglang_usage(path: Path, _: str, num: int) -> str:
    return (
        "python -m sglang.bench_serving --backend sglang-oai-chat --dataset-name agentic-trace "
        f"--dataset-path {_q(path)} --num-prompts {num}"
    )


def _openai_usage(path: Path, _: str, num: int) -> str:
    return (
        f"python -m sglang.bench_serving --backend sglang-oai-chat --dataset-name openai --dataset-path {_q(path)} "
        f"--num-prompts {num} --sharegpt-output-len 256"
    )


def _aiperf_usage(path: Path, _: str, num: int) -> str:
    return f"aiperf profile --input-file {_q(path)} --custom-dataset-type multi_turn --conversation-num {num}"


def _skills_usage(path: Path, config: str, num: int) -> str:
    kind = f"speed_bench_{config}" if config in NUM_ROWS else "speed_bench_qualitative"
    return f"aiperf profile --input-file {_q(path)} --custom-dataset-type {kind} --conversation-num {num}"


def _llama_cpp_usage(path: Path, config: str, _: int) -> str:
    return f"cd {_q(path)} && python …/llama.cpp/tools/server/bench/speed-bench/speed_bench.py --bench {config}"


def _q(path: Path) -> str:
    return shlex.quote(str(path))


def _by_name(targets: Iterable[Target]) -> Mapping[str, Target]:
    return MappingProxyType({target.name: target for target in targets})


TARGETS: Final = _by_name(
    [
        Target(
            "vllm",
            "vllm bench serve --dataset-name custom",
            (".jsonl",),
            False,
            "none",
            lambda rows: _lines({"prompt": row.turns[0]} for row in rows),
            _vllm_usage,
            "it applies the chat template itself: with --backend openai-chat add --skip-chat-template, or the server "
            "applies it again",
        ),
        Target(
            "sglang",
            "sglang.bench_serving --dataset-name agentic-trace",
            (".json",),
            True,
            "question_id, category (not used)",
            _sglang,
            _sglang_usage,
            "it needs a chat backend; an answer has 220 tokens unless --sharegpt-output-len says how many",
        ),
        Target(
            "sglang-openai",
            "sglang.bench_serving --dataset-name openai",
            (".jsonl",),
            False,
            "none",
            lambda rows: _lines({"messages": [{"role": "user", "content": row.turns[0]}]} for row in rows),
            _openai_usage,
            "other fields of a line would be sent to the server, so there are none",
        ),
        Target(
            "aiperf",
            "aiperf profile --custom-dataset-type multi_turn",
            (".jsonl",),
            True,
            "question_id, as session_id",
            _aiperf,
            _aiperf_usage,
            "without --conversation-num it sends as many requests as there are rows, and so not the later turns",
        ),
        Target(
            "guidellm",
            "guidellm run --data kind=json_file",
            (".jsonl", ".json"),
            True,
            "question_id (not used)",
            _guidellm,
            lambda path, _, __: f"guidellm run --data kind=json_file,path={_q(path)}",
            "it goes through the rows again and again until its constraint is met",
        ),
        Target(
            "llama-cpp",
            "llama.cpp, tools/server/bench/speed-bench/speed_bench.py",
            (),
            True,
            "all, as Parquet",
            _parquet,
            _llama_cpp_usage,
            "it strips blanks at both ends of a turn, and loads nvidia/SPEED-Bench: from that folder, these rows",
        ),
        Target(
            "nemo-skills",
            "AIPerf's speed_bench types (all turns), vllm bench serve --dataset-name speed_bench (first turn only)",
            (".jsonl",),
            True,
            "all",
            _skills,
            _skills_usage,
            "vLLM looks for a file called <config>.jsonl and sends first turns only; AIPerf needs "
            "--custom-dataset-type, and --conversation-num for later turns",
        ),
        Target(
            "jsonl",
            "speed-bench, and first turns only: vllm bench serve --dataset-name spec_bench, "
            "sglang.bench_serving --dataset-name speed-bench",
            (".jsonl",),
            True,
            "all",
            lambda rows: _lines(_columns(row) for row in rows),
            lambda path, config, _: f"speed-bench data import {_q(path)} --config {config} --out DIR",
            "vLLM and SGLang send the first turn of a row only",
        ),
        Target(
            "parquet",
            "speed-bench, load_dataset('parquet', data_files=…)",
            (".parquet",),
            True,
            "all",
            _parquet,
            lambda path, config, _: f"speed-bench data import {_q(path)} --config {config} --out DIR",
        ),
    ]
)
