"""What is done on the event loop between reads is done in slices, in order, and to its end."""

import asyncio
import os
import time
from collections.abc import Callable
from typing import Any

import pytest

from speed_bench.config import resolve
from speed_bench.engines import dialect
from speed_bench.engines.answers import Drafting
from speed_bench.engines.http import Exchange, Url
from speed_bench.errors import RunFolderError
from speed_bench.models import EMBEDDED_MODEL, resolve_gguf
from speed_bench.runner.client import Client, Target, settled
from speed_bench.runner.slices import SLICE_S, Slices, Work, at_once
from speed_bench.runner.turn import PIECES_AT_ONCE, Asked, read_turn
from speed_bench.tokens import ChatTokenizer
from speed_bench.types import Request, Sampling

EVENT = b'data: {"choices": [{"index": 0, "text": "w", "finish_reason": %s, "token_ids": [7]}]}\n\n'
TOKENIZER = ChatTokenizer.from_gguf(resolve_gguf(EMBEDDED_MODEL.key))
USAGE = b'data: {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": %d}}\n\n'


def noting(notes: list[Any], name: str, pieces: int) -> Work[None]:
    for piece in range(pieces):
        notes.append((name, piece))
        yield


def test_work_is_done_in_the_order_in_which_it_was_given() -> None:
    notes: list[Any] = []

    async def main() -> None:
        slices = Slices()
        slices.put(noting(notes, "first", 2))
        slices.put(noting(notes, "second", 1))
        assert notes == []  # not while whoever gives it goes on
        await asyncio.sleep(0.01)
        slices.put(noting(notes, "third", 1))
        await asyncio.sleep(0.01)

    asyncio.run(main())
    assert notes == [("first", 0), ("first", 1), ("second", 0), ("third", 0)]


def test_a_read_comes_between_two_slices_however_much_is_left() -> None:
    notes: list[Any] = []

    def long() -> Work[None]:
        until_s = time.monotonic() + 1000 * SLICE_S
        while time.monotonic() < until_s and "read" not in notes:
            yield
        notes.append("ended")

    async def main() -> None:
        here, there = os.pipe()
        asyncio.get_running_loop().add_reader(here, lambda: notes.append("read") or os.read(here, 1))
        slices = Slices()
        slices.put(long())
        os.write(there, b".")
        while "ended" not in notes:
            await asyncio.sleep(0)
        asyncio.get_running_loop().remove_reader(here)
        os.close(here)
        os.close(there)

    asyncio.run(main())
    assert notes == ["read", "ended"]


def test_all_that_is_left_is_done_at_the_end() -> None:
    notes: list[Any] = []

    async def main() -> None:
        slices = Slices()
        slices.put(noting(notes, "first", 100))
        slices.put(noting(notes, "second", 100))
        slices.finish()
        assert len(notes) == 200
        await asyncio.sleep(0)

    asyncio.run(main())


def test_work_that_fails_holds_up_nothing() -> None:
    notes: list[Any] = []
    told: list[str] = []

    def failing() -> Work[None]:
        yield
        raise ZeroDivisionError

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(repr(context["exception"])))
        slices = Slices()
        slices.put(failing())
        slices.put(noting(notes, "next", 1))
        await asyncio.sleep(0.01)

    asyncio.run(main())
    assert (notes, told) == ([("next", 0)], ["ZeroDivisionError()"])


@pytest.mark.parametrize("num", [1, PIECES_AT_ONCE, 10 * PIECES_AT_ONCE])
def test_an_answer_is_parsed_in_pieces_of_a_few_events(num: int) -> None:
    events = [EVENT % b"null"] * (num - 1) + [EVENT % b'"stop"', USAGE % num, b"data: [DONE]\n\n"]
    exchange = Exchange(0, 200, [(at, event) for at, event in enumerate(events)], len(events))
    request = Request("0/0", (1,), Sampling(0.0, num, 0))
    asked = Asked("qa", "", 0, 0, Drafting(0))
    num_breaks = 0

    def counted() -> Work[Any]:
        nonlocal num_breaks
        work = read_turn(dialect("vllm"), request, asked, exchange, name_unnamed=lambda ids, _: ids, engine_counts=None)
        while True:
            try:
                next(work)
            except StopIteration as done:
                return done.value
            num_breaks += 1
            yield

    assert at_once(counted()).num_output_tokens == num
    assert num_breaks >= (num + 2) // PIECES_AT_ONCE + 4  # and between what is done with all of them


class Panic(BaseException):
    """As a panic of a library in Rust comes."""


def raising(error: BaseException) -> Work[str]:
    yield
    raise error


def returning(text: str) -> Work[str]:
    yield
    return text


def refuse(_: str) -> None:
    raise RunFolderError("the disk is full")


async def settled_of(work: Work[str], keep: Callable[[str], None]) -> str:
    target = Target(resolve({"engine": "simulator"})[0].engine, Url("127.0.0.1", 1), "m", Drafting(8), None, 0, 1.0)
    client = Client(target, TOKENIZER, ())
    try:
        async with asyncio.timeout(5.0):
            return await settled(client.settle(work, keep))
    finally:
        client.close()


@pytest.mark.parametrize("error", [ZeroDivisionError("x"), Panic("x")])
def test_whoever_waits_for_an_answer_hears_why_it_could_not_be_parsed(error: BaseException) -> None:
    with pytest.raises(type(error)):
        asyncio.run(settled_of(raising(error), lambda _: None))


def test_whoever_waits_for_an_answer_hears_that_it_could_not_be_kept() -> None:
    kept: list[str] = []
    assert asyncio.run(settled_of(returning("a"), kept.append)) == "a"
    assert kept == ["a"]
    with pytest.raises(RunFolderError, match="the disk is full"):
        asyncio.run(settled_of(returning("a"), refuse))
