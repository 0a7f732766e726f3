"""What a later turn is asked, and what of an earlier answer it carries."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest
from conftest import QUESTION, turn_record
from hypothesis import example, given
from hypothesis import strategies as st
from reasoners import CUTS_CONTENT, PLAIN, READS_FIELD, tokenizer_of
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from speed_bench.config import resolve
from speed_bench.engines import dialect
from speed_bench.engines.answers import Drafting
from speed_bench.engines.http import Exchange
from speed_bench.errors import ConfigError, RequestFailed
from speed_bench.runner.client import Ready
from speed_bench.runner.conversation import Script, Task, check_first_turns_fit, messages, most_tokens
from speed_bench.runner.journal import Journal, RunFile, read_records
from speed_bench.runner.slices import Work, at_once
from speed_bench.runner.turn import Asked, read_turn
from speed_bench.tokens import ChatTokenizer
from speed_bench.types import Conversation, Failure, Outcome, Request, Sampling, TurnRecord

T = TypeVar("T")


@cache
def byte_tokenizer() -> Tokenizer:
    """One token per byte of the normalised text, the most that there can be."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({each: number for number, each in enumerate(alphabet)}, []))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    return tokenizer


THINK = ("<think>", "</think>")
ROW = Conversation(QUESTION, "qa", None, ("Hi", "And?", "Bye"), "own", "0", None, multiturn=True)


@dataclass
class Model:
    """Answers every prompt with the next of its texts, as an engine would; keeps the prompts."""

    tokenizer: ChatTokenizer
    texts: list[str]
    prompts: list[str] = field(default_factory=list)
    target: Any = field(default_factory=lambda: SimpleNamespace(context_length=None, segment=0))
    started_ns: int = 0

    def clock(self) -> int:
        return 0

    def seconds(self, at_ns: int) -> float:
        return at_ns / 1e9

    def encode(self, request: Request) -> Ready:
        return Ready(request, "", b"", "")

    async def on_stream(self, ready: Ready, slot: int) -> Ready:
        return ready

    async def beside(self, work: Callable[[], T]) -> T:
        return work()

    def settle(self, work: Work[T], keep: Callable[[T], None]) -> "asyncio.Future[T]":
        future = asyncio.get_running_loop().create_future()
        future.set_result(at_once(work))
        keep(future.result())
        return future

    async def send(self, ready: Ready) -> None: ...

    def read(self, ready: Ready, _: None, category: str, **__: Any) -> Work[TurnRecord]:
        yield
        request = ready.request
        self.prompts.append(self.tokenizer.decode(request.prompt_ids, ("<u>", "<a>", "<eos>", *THINK)))
        ids = self.tokenizer.encode(self.texts[len(self.prompts) - 1])
        num = self.tokenizer.num_thinking_tokens(request.prompt_ids, ids)
        answer = {"output_ids": ids, "arrivals": ((1.0, len(ids)),), "counts": None, "num_thinking_tokens": num}
        return turn_record(int(request.id[-1]), category=category, **answer)


def led(
    tokenizer: ChatTokenizer,
    texts: list[str],
    replayed: dict[tuple[int, str], Any] | None = None,
    earlier: dict[tuple[int, int, str], Outcome] | None = None,
    **settings: Any,
) -> tuple[list[str], list[Outcome]]:
    """The prompts that a conversation of three turns came to, and what came of the turns."""
    model, kept = Model(tokenizer, texts), []
    script = Script(resolve(settings)[0], tokenizer, replayed, earlier or {})
    asyncio.run(script.lead(Task(ROW, 0), 0, model, kept.append))  # type: ignore[arg-type]
    return model.prompts, kept


@pytest.mark.parametrize(("template", "carried"), [(READS_FIELD, "yes"), (PLAIN, "\nyes")])
def test_later_turns_carry_the_answers_without_their_thinking(template: str, carried: str) -> None:
    tokenizer = tokenizer_of(template, special=THINK)
    prompts, kept = led(tokenizer, ["<think>so</think>\nyes<eos>", "<think>ab</think>\nyes<eos>", "yes"])
    one = f"<u>Hi<a>{carried}<eos><u>And?<a>"
    assert prompts == ["<u>Hi<a>", one, f"{one}{carried}<eos><u>Bye<a>"]
    assert [turn.num_thinking_tokens for turn in kept] == [4, 3, 0]


def test_thinking_that_the_prompt_opened_and_the_limit_cut_leaves_an_empty_answer() -> None:
    prompts, kept = led(tokenizer_of(CUTS_CONTENT, special=THINK), ["so and", "so</think>yes<eos>", "so"])
    tail = "<think>\n"
    assert prompts[1] == f"<u>Hi<a><eos><u>And?<a>{tail}"
    assert prompts[2] == f"<u>Hi<a><eos><u>And?<a>yes<eos><u>Bye<a>{tail}"
    assert [turn.num_thinking_tokens for turn in kept] == [6, 3, 2]


def test_arguments_of_the_template_are_in_every_prompt() -> None:
    tokenizer = tokenizer_of(READS_FIELD, special=THINK)
    prompts, kept = led(tokenizer, ["yes"] * 3, chat_template_args={"enable_thinking": False})
    assert all(prompt.endswith("<a><think>\n\n</think>\n\n") for prompt in prompts)
    assert [turn.num_thinking_tokens for turn in kept] == [0, 0, 0]


def test_a_resumed_conversation_carries_what_the_journal_holds() -> None:
    tokenizer = tokenizer_of(CUTS_CONTENT, special=THINK)
    texts = ["so</think>yes<eos>", "ab</think>no<eos>", "so"]
    prompts, kept = led(tokenizer, texts)
    earlier = {turn.key: turn for turn in kept[:2]}
    assert led(tokenizer, texts[2:], earlier=earlier)[0] == prompts[2:]


def test_replayed_answers_take_the_place_of_the_models_own() -> None:
    tokenizer = tokenizer_of(READS_FIELD, special=THINK)
    answers = {(0, f"{QUESTION}/{turn}"): tokenizer.answer_message(tokenizer.encode("no"), 0) for turn in range(2)}
    prompts, _ = led(tokenizer, ["<think>so</think>yes"] * 3, replayed=answers)
    assert prompts[2] == "<u>Hi<a>no<eos><u>And?<a>no<eos><u>Bye<a>"


def test_after_a_turn_that_failed_the_next_is_due_from_then_on() -> None:
    due_ns: list[int] = []

    class Failing(Model):
        def clock(self) -> int:
            return 7_000_000_000

        def read(self, ready: Ready, answered: None, category: str, *, scheduled_ns: int, **more: Any) -> TurnRecord:
            due_ns.append(scheduled_ns)
            if len(due_ns) == 1:
                raise RequestFailed("it is cut")
            return super().read(ready, answered, category, **more)

    tokenizer = tokenizer_of(PLAIN)
    answers = {(0, f"{QUESTION}/{turn}"): tokenizer.answer_message(tokenizer.encode("no"), 0) for turn in range(2)}
    script = Script(resolve({"think_time_s": 0.01})[0], tokenizer, answers, {})
    model, kept = Failing(tokenizer, ["yes"] * 3), []
    asyncio.run(script.lead(Task(ROW, 0), 0, model, kept.append, due_ns=1_000_000_000))  # type: ignore[arg-type]
    assert isinstance(kept[0], Failure)
    assert due_ns[:2] == [1_000_000_000, 7_010_000_000]


def test_a_template_that_refuses_the_history_fails_the_turn_and_says_why() -> None:
    refusing = PLAIN.replace("{{ m.content }}<eos>", "{{ raise_exception('no assistant') }}")
    _, kept = led(tokenizer_of(refusing), ["yes"])
    assert isinstance(kept[1], Failure)
    assert (kept[1].stage, kept[2].stage) == ("prompt", "history")
    assert "no assistant" in kept[1].error


def test_messages_take_texts_and_messages() -> None:
    chat = messages(ROW, 2, ["one", {"role": "assistant", "content": "two", "thinking": "so"}])
    assert [message["content"] for message in chat] == ["Hi", "one", "And?", "two", "Bye"]
    assert chat[3]["thinking"] == "so"


def test_first_turns_are_measured_with_the_arguments() -> None:
    tokenizer = tokenizer_of(READS_FIELD, special=THINK)
    check_first_turns_fit((ROW,), tokenizer, 5)
    with pytest.raises(ConfigError, match="has 8 prompt tokens"):
        check_first_turns_fit((ROW,), tokenizer, 5, {"enable_thinking": False})


def test_a_prompt_whose_bytes_fit_is_not_tokenised_before_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = tokenizer_of(PLAIN)
    tokenised: list[str] = []
    encode = tokenizer.encode
    monkeypatch.setattr(tokenizer, "encode", lambda text: tokenised.append(text) or encode(text))
    bound = most_tokens(tokenizer.chat_text(messages(ROW, 0, [])))
    check_first_turns_fit((ROW,), tokenizer, bound + 1)
    assert tokenised == []
    check_first_turns_fit((ROW,), tokenizer, bound)
    assert len(tokenised) == 1


@given(st.text(max_size=20))
@example("\u0958\u0958 \ufb2c \U0001d160")  # NFC makes two or three characters of each
def test_no_tokenizer_makes_more_tokens_than_the_bound(text: str) -> None:
    tokenizer = byte_tokenizer()
    assert len(tokenizer.encode(text).ids) <= most_tokens(text)


def test_a_recorded_turn_says_how_much_of_it_is_thinking() -> None:
    stream = Path(__file__).parent.parent / "recordings" / "llama-cpp" / "eos.sse"
    reads = [(2_000_000_000, event + b"\n\n") for event in stream.read_bytes().split(b"\n\n") if event.strip()]
    asked = Asked(category="qa", prompt_sha256="", segment=0, segment_started_ns=1_000_000_000, drafting=Drafting(8))
    request = Request("a/0", (1, 2, 3), Sampling(0.0, 48, 0))
    seen: list[tuple[Any, Any]] = []

    def count(prompt_ids: Any, output_ids: Any) -> int:
        seen.append((prompt_ids, tuple(output_ids)))
        return 2

    exchange = Exchange(1_500_000_000, 200, reads, reads[-1][0])
    work = read_turn(
        dialect("llama-cpp"),
        request,
        asked,
        exchange,
        name_unnamed=lambda ids, _: ids,
        engine_counts=None,
        count_thinking=count,
    )
    record = at_once(work)
    assert record.num_thinking_tokens == 2
    assert seen == [((1, 2, 3), record.output_ids)]


def test_ids_that_the_tokenizer_cannot_tell_the_thinking_of_fail_their_turn_alone() -> None:
    def count(*_: Any) -> int:
        raise IndexError("piece id is out of range")

    body = b'data: {"choices": [{"text": "a", "finish_reason": "stop", "token_ids": [9]}]}\n\n'
    usage = b'data: {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}\n\ndata: [DONE]\n\n'
    work = read_turn(
        dialect("vllm"),
        Request("a/0", (1, 2, 3), Sampling(0.0, 48, 0)),
        Asked(category="qa", prompt_sha256="", segment=0, segment_started_ns=0, drafting=Drafting(0)),
        Exchange(1, 200, [(2, body + usage)], 3),
        name_unnamed=lambda ids, _: ids,
        engine_counts=None,
        count_thinking=count,
    )
    with pytest.raises(RequestFailed, match="out of range"):
        at_once(work)


def test_a_journal_without_the_number_is_still_read(run_folder: Path, run_file: RunFile) -> None:
    with Journal(run_folder, run_file) as journal:
        journal.add(turn_record(num_thinking_tokens=2))
    path = run_folder / "turns-0.jsonl"
    assert read_records(run_folder).turns[0].num_thinking_tokens == 2
    line = json.loads(path.read_text())
    del line["turn"]["num_thinking_tokens"]
    path.write_text(json.dumps(line) + "\n")
    assert read_records(run_folder).turns[0].num_thinking_tokens is None


def test_more_thinking_than_output_is_no_turn() -> None:
    with pytest.raises(ValueError, match="4 of 3 output tokens are thinking"):
        turn_record(num_thinking_tokens=4)
    assert replace(turn_record(), num_thinking_tokens=3).num_thinking_tokens == 3
