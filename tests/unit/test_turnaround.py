"""A stream that is free is used again at once: what is left to do with its last answer does not slow a load down."""

import threading
import time
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from simulated import Watching, simulated

from speed_bench.runner import client
from speed_bench.runner.client import Answered, Client, Ready
from speed_bench.runner.journal import is_finished, read_records
from speed_bench.runner.slices import Work
from speed_bench.types import TurnRecord

STREAMS = 4
SINGLE = {
    "categories": "qa",
    "max_tokens": 2,
    "ignore_eos": True,
    "warmup_per_slot": 0,
    "concurrency": STREAMS,
    "engine.speed": 2.0,
}
TWICE = {**SINGLE, "num_prompts": 2 * STREAMS, "limit_per_category": None, "repeat_prompts": True}


class Answers:
    """Parses none before enough of them have come."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, enough: int) -> None:
        self.came_in_time: list[bool] = []
        num_sent, enough_came = count(1), threading.Event()
        send, read_turn = Client.send, client.read_turn

        async def sent(ours: Client, ready: Ready) -> Answered:
            answered = await send(ours, ready)
            if next(num_sent) == enough:
                enough_came.set()
            return answered

        def late(*args: Any, **more: Any) -> Work[TurnRecord]:
            until_s = time.monotonic() + 10.0
            while not enough_came.is_set() and time.monotonic() < until_s:
                yield
            self.came_in_time.append(enough_came.is_set())
            return (yield from read_turn(*args, **more))

        monkeypatch.setattr(Client, "send", sent)
        monkeypatch.setattr(client, "read_turn", late)


@pytest.mark.parametrize("load", [{}, pytest.param({"arrivals": "constant", "rate": 1000.0}, marks=pytest.mark.long)])
def test_a_stream_is_used_again_before_its_last_answer_is_parsed(
    load: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = Answers(monkeypatch, enough=2 * STREAMS)
    assert is_finished(simulated(tmp_path, **TWICE, **load))
    assert answers.came_in_time
    assert all(answers.came_in_time)


def test_an_answer_that_was_there_when_the_run_was_stopped_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(num_ended: int) -> None:
        if num_ended == 1:
            raise KeyboardInterrupt

    Answers(monkeypatch, enough=STREAMS)
    with pytest.raises(KeyboardInterrupt):
        simulated(tmp_path, watching=Watching(stop), **TWICE)
    assert len(read_records(tmp_path).turns) >= STREAMS
