"""The event loop stamps and appends, and parses in between: all else is done on another thread while streams run."""

import threading
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from speed_bench.config import resolve
from speed_bench.engines import vllm
from speed_bench.runner import benchmark, client
from speed_bench.runner.journal import Journal, read_records
from speed_bench.runner.outcomes import Ended
from speed_bench.tokens import ChatTokenizer
from speed_bench.types import Outcome


class Nobody:
    """Watches a run and does nothing."""

    def begin(self, arm: str, num_turns: int, earlier: tuple[Outcome, ...]) -> None: ...

    def outcome(self, turn: Ended) -> None: ...

    def end(self) -> None: ...


def test_nothing_that_cannot_be_interrupted_happens_on_the_event_loop_while_streams_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: dict[str, set[int]] = defaultdict(set)
    measuring = threading.Event()

    def watch(owner: Any, name: str) -> None:
        original: Callable[..., Any] = getattr(owner, name)

        def watched(*args: Any, **kwargs: Any) -> Any:
            if measuring.is_set():
                threads[name].add(threading.get_ident())
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, watched)

    for owner, names in {
        ChatTokenizer: ("encode", "decode", "chat_text", "answer_message"),
        vllm: ("payload", "parse", "count"),
        client: ("prompt_sha256", "read_turn"),
        Journal: ("add",),
    }.items():
        for name in names:
            watch(owner, name)
    add_segment = Journal.add_segment

    def begin_or_end(journal: Journal, of: Any) -> None:
        measuring.clear() if of.whole else measuring.set()
        add_segment(journal, of)

    monkeypatch.setattr(Journal, "add_segment", begin_or_end)
    flags = {
        "engine": "simulator",
        "algorithm": "mtp",
        "concurrency": 4,
        "categories": "math,coding",
        "baseline": False,
    }
    config, protocol = resolve({**flags, "engine.speed": 20.0})
    benchmark.run(config, protocol, tmp_path / "run", observer=Nobody())

    assert any(turn.id.endswith("/1") for turn in read_records(tmp_path / "run").turns)  # answers were carried on
    assert set(threads) == {
        *("encode", "decode", "chat_text", "answer_message", "payload"),
        *("parse", "count", "prompt_sha256", "read_turn", "add"),
    }
    on_loop = {name for name, seen in threads.items() if threading.get_ident() in seen}
    assert on_loop == {"read_turn", "parse", "count"}  # in slices: see test_slices
