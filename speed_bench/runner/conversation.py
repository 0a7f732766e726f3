"""One conversation: its turns in order, each carrying the answers before it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from speed_bench.config import RunConfig
from speed_bench.errors import ConfigError, RequestFailed, TokenError
from speed_bench.runner.segment import LiveEngine
from speed_bench.runner.turn import sampling_of
from speed_bench.tokens import ChatTokenizer
from speed_bench.types import Conversation, Failure, Outcome, Request, TurnRecord

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
        conversation: Conversation,
        seed: int,
        slot: int,
        live: LiveEngine,
        keep: Callable[[Outcome], None],
    ) -> None:
        """Ask all turns that are not in the journal yet, and keep what comes of each."""
        answers: list[Answer] = []
        broken_by: str | None = None
        num_turns = len(conversation.turns)
        for turn in range(num_turns):
            identity = turn_id(conversation, turn)
            outcome = self.earlier.get((seed, 0, identity))
            if outcome is None:
                outcome = await self._turn(conversation, turn, seed, slot, live, answers, broken_by)
                await live.run_in_parser(partial(keep, outcome))
            if turn + 1 == num_turns:
                break
            if self.replayed is not None:
                answers.append(self.replayed[seed, identity])
            elif isinstance(outcome, TurnRecord):
                said = partial(self.tokenizer.answer_message, outcome.output_ids, outcome.num_thinking_tokens)
                answers.append(await live.run_in_parser(said))
            else:
                broken_by = broken_by or identity

    async def _turn(
        self,
        conversation: Conversation,
        turn: int,
        seed: int,
        slot: int,
        live: LiveEngine,
        answers: list[Answer],
        broken_by: str | None,
    ) -> Outcome:
        def failure(stage: str, error: str) -> Failure:
            at_s = (live.streams[slot].clock() - live.started_ns) / 1e9
            return Failure(
                turn_id(conversation, turn), conversation.category, seed, live.segment.index, stage, error, at_s
            )

        if broken_by is not None:
            return failure("history", f"turn {broken_by} of this conversation failed")
        chat = messages(conversation, turn, answers)
        try:
            ids = await live.run_in_parser(lambda: self.tokenizer.chat_ids(chat, self.config.chat_template_args))
        except TokenError as error:
            return failure("prompt", str(error))
        room = self.config.max_tokens if live.context_length is None else live.context_length - len(ids)
        if room < 1:
            return failure("prompt", f"the prompt has {len(ids)} tokens, the context holds {live.context_length}")
        sampling = sampling_of(self.config, self.tokenizer, seed, min(room, self.config.max_tokens))
        try:
            return await live.ask(Request(turn_id(conversation, turn), ids, sampling, slot), conversation.category)
        except RequestFailed as error:
            return failure("request", str(error))


def check_first_turns_fit(
    rows: tuple[Conversation, ...],
    tokenizer: ChatTokenizer,
    context_length: int | None,
    template_args: Mapping[str, Any] | None = None,
    *,
    attached: bool = False,
) -> None:
    """Raise ConfigError before anything is run if a prompt is longer than the context, where that is known.

    Of an attached server only its owner can change it.
    """
    if context_length is None:
        return
    for row in rows:
        num_tokens = len(tokenizer.chat_ids(messages(row, 0, []), template_args))
        if num_tokens >= context_length:
            setting = f"raise it with --set engine.context_length={num_tokens + 1024}"
            longer = "start the server with more" if attached else setting
            raise ConfigError(
                f"row {row.question_id} ({row.category}) has {num_tokens} prompt tokens, but the context holds "
                f"{context_length}; {longer}, or leave its category out with --categories"
            )
