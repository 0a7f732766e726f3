"""One conversation: its turns in order, each carrying the answers before it."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from speed_bench.config import RunConfig
from speed_bench.errors import ConfigError, RequestFailed, TokenError
from speed_bench.runner.client import Client, Ready, settled
from speed_bench.runner.slices import Work
from speed_bench.runner.turn import sampling_of
from speed_bench.tokens import ChatTokenizer
from speed_bench.types import Conversation, Failure, Outcome, Request, TurnRecord

NO_SLOT = -1
"""Of a request that no stream has taken yet."""
SPARE_TOKENS = 16
"""Of the bound on the tokens of a text."""
Answer = Mapping[str, Any]
"""An assistant's message as the model's chat template takes it (`ChatTokenizer.answer_message`)."""
Answers = Mapping[tuple[int, str], Answer]
"""(seed, turn id) -> the answer that later turns carry."""


def turn_id(conversation: Conversation, turn: int) -> str:
    """`<question_id>/<turn>`."""
    return f"{conversation.question_id}/{turn}"


def messages(conversation: Conversation, turn: int, answers: Sequence[Answer | str]) -> list[dict[str, Any]]:
    """The chat so far, ending with the user's turn number `turn`. An answer is a message, or only its text."""
    chat: list[dict[str, Any]] = []
    for index in range(turn + 1):
        chat.append({"role": "user", "content": conversation.turns[index]})
        if index < turn:
            answer = answers[index]
            chat.append({"role": "assistant", "content": answer} if isinstance(answer, str) else dict(answer))
    return chat


@dataclass(frozen=True, slots=True)
class Task:
    """A conversation that is to be led."""

    conversation: Conversation
    seed: int
    repeat: int = 0
    """How many times it had been begun before, under the same seed."""


@dataclass(frozen=True, slots=True)
class Script:
    """How every conversation of a run is led."""

    config: RunConfig
    tokenizer: ChatTokenizer
    replayed: Answers | None
    """Another run's answers, or None: the model's own."""
    earlier: Mapping[tuple[int, int, str], Outcome]
    """What the journal already holds, by `key`."""

    async def lead(
        self,
        task: Task,
        slot: int,
        client: Client,
        keep: Callable[[Outcome], None],
        *,
        first: Ready | Failure | None = None,
        due_ns: int | None = None,
        until_ns: int | None = None,
        group: asyncio.TaskGroup | None = None,
    ) -> bool:
        """Ask all turns that are not in the journal yet, and keep what comes of each.

        `first` is the first turn where it was prepared before. In an open loop `due_ns` is when the conversation was
        to begin, and it does; a later turn is due when the answer before it has ended, or failed, and was thought over.
        From `until_ns` on no other turn begins any more; returns whether all have. With a `group` the stream is free
        for another conversation as soon as the last answer is there: what is left to do with it is a task of the group.
        """
        answers: list[Answer] = []
        broken_by: str | None = None
        turns = task.conversation.turns
        for turn in range(len(turns)):
            identity = turn_id(task.conversation, turn)
            outcome = self.earlier.get((task.seed, task.repeat, identity))
            was_kept = outcome is not None
            if outcome is None:
                is_due = turn == 0 and due_ns is not None  # however long it waited: else the longest waits were lost
                if until_ns is not None and client.clock() >= until_ns and not is_due:
                    return False
                if turn or first is None:
                    first = await client.beside(partial(self.prepare, task, turn, slot, client, answers, broken_by))
                work = await self._ask(first, task, slot, client, keep, due_ns)
                if group is not None and turn + 1 == len(turns) and not client.reads_counters:
                    await client.unparsed.acquire()
                    group.create_task(_settle(work, client))
                    break
                outcome = await settled(work)
            if turn + 1 == len(turns):
                break
            if self.replayed is not None:
                answers.append(self.replayed[task.seed, identity])
            elif isinstance(outcome, TurnRecord):
                said = partial(self.tokenizer.answer_message, outcome.output_ids, outcome.num_thinking_tokens)
                answers.append(await client.beside(said))
            else:
                broken_by = broken_by or identity
            if not (was_kept or broken_by):
                due_ns = await self._think(outcome, client, due_ns)
        return True

    def prepare(
        self,
        task: Task,
        turn: int,
        slot: int | None,
        client: Client,
        answers: Sequence[Answer],
        broken_by: str | None = None,
    ) -> Ready | Failure:
        """A turn up to the bytes that are sent, or why it cannot be asked. Takes a while: not for the event loop.

        `slot` is None where it is not known yet which stream will send it.
        """
        identity = turn_id(task.conversation, turn)
        failed = partial(self._failure, task, identity, client)
        if broken_by is not None:
            return failed("history", f"turn {broken_by} of this conversation failed")
        chat = messages(task.conversation, turn, answers)
        try:
            ids = self.tokenizer.chat_ids(chat, self.config.chat_template_args)
        except TokenError as error:
            return failed("prompt", str(error))
        context_length = client.target.context_length
        room = self.config.max_tokens if context_length is None else context_length - len(ids)
        if room < 1:
            return failed("prompt", f"the prompt has {len(ids)} tokens, the context holds {context_length}")
        sampling = sampling_of(self.config, self.tokenizer, task.seed, min(room, self.config.max_tokens))
        return client.encode(Request(identity, ids, sampling, NO_SLOT if slot is None else slot))

    async def _ask(
        self,
        first: Ready | Failure,
        task: Task,
        slot: int,
        client: Client,
        keep: Callable[[Outcome], None],
        due_ns: int | None,
    ) -> "asyncio.Future[Outcome]":
        """Ask, and hand over what came of it to be parsed and kept, whatever becomes of the run."""
        if isinstance(first, Failure):
            due_s = None if due_ns is None else client.seconds(due_ns)
            failed = replace(first, at_s=client.seconds(client.clock()), began_at_s=due_s)
            return client.settle(_as_it_is(failed), keep)
        ready = await client.on_stream(first, slot)
        began_ns = client.clock() if due_ns is None else due_ns

        def failure(error: RequestFailed, at_ns: int) -> Failure:
            failed = self._failure(task, ready.request.id, client, "request", str(error), at_ns)
            return replace(failed, began_at_s=client.seconds(began_ns))

        try:
            answered = await client.send(ready)
        except RequestFailed as error:
            failed = failure(error, client.clock())
            await client.require_health()
            return client.settle(_as_it_is(failed), keep)
        ended_ns = client.clock()

        def read() -> Work[Outcome]:
            category = task.conversation.category
            try:
                return (yield from client.read(ready, answered, category, scheduled_ns=due_ns, repeat=task.repeat))
            except RequestFailed as error:
                return failure(error, ended_ns)

        return client.settle(read(), keep)

    def _failure(
        self, task: Task, identity: str, client: Client, stage: str, error: str, at_ns: int | None = None
    ) -> Failure:
        at_s = client.seconds(client.clock() if at_ns is None else at_ns)
        segment = client.target.segment
        return Failure(identity, task.conversation.category, task.seed, segment, stage, error, at_s, task.repeat)

    async def _think(self, outcome: Outcome, client: Client, due_ns: int | None) -> int | None:
        """Let the user think the answer over; returns when the next turn is due, in an open loop."""
        pause_s = self.config.think_time_s
        if pause_s:
            await asyncio.sleep(pause_s)
        if due_ns is None:
            return None
        ended_at_s = outcome.finished_at_s if isinstance(outcome, TurnRecord) else outcome.at_s
        return client.started_ns + round(1e9 * (ended_at_s + pause_s))


def _as_it_is(outcome: Outcome) -> Work[Outcome]:
    """There is nothing to parse."""
    yield
    return outcome


async def _settle(work: "asyncio.Future[Outcome]", client: Client) -> None:
    try:
        await settled(work)
    finally:
        client.unparsed.release()


def check_first_turns_fit(
    rows: tuple[Conversation, ...],
    tokenizer: ChatTokenizer,
    context_length: int | None,
    template_args: Mapping[str, Any] | None = None,
    *,
    attached: bool = False,
) -> None:
    """Raise ConfigError before anything is run if a prompt is longer than the context, where that is known.

    Of an attached server only its owner can change it. A prompt whose bytes would fit is not tokenised: thousands of
    them take longer than all else before the first request.
    """
    if context_length is None:
        return
    for row in rows:
        text = tokenizer.chat_text(messages(row, 0, []), template_args)
        if most_tokens(text) < context_length:
            continue
        num_tokens = len(tokenizer.encode(text))
        if num_tokens >= context_length:
            setting = f"raise it with --set engine.context_length={num_tokens + 1024}"
            longer = "start the server with more" if attached else setting
            raise ConfigError(
                f"row {row.question_id} ({row.category}) has {num_tokens} prompt tokens, but the context holds "
                f"{context_length}; {longer}, or leave its category out with --categories"
            )


def most_tokens(text: str) -> int:
    """More tokens than this no tokenizer makes of a text: one per byte, after it was normalised, and what it may put
    in front. In NFC, whatever is not ASCII grows to at most three times its bytes (UAX 15, table 11).

    >>> most_tokens("word"), most_tokens("né")
    (20, 23)
    """
    num_bytes = len(text.encode("utf-8", "surrogatepass"))
    num_more = num_bytes - len(text)  # at least half of the bytes that are not ASCII
    return num_bytes + 4 * num_more + SPARE_TOKENS
