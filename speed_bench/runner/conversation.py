"""One conversation: its turns in order, each carrying the answers before it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from speed_bench.config import RunConfig
from speed_bench.errors import ConfigError, RequestFailed, TokenError
from speed_bench.runner.segment import LiveEngine
from speed_bench.tokens import ChatTokenizer
from speed_bench.types import Conversation, Failure, Outcome, Request, Sampling, TurnRecord

Answers = Mapping[tuple[int, str], str]
"""(seed, turn id) -> the answer that later turns carry."""


def turn_id(conversation: Conversation, turn: int) -> str:
    """`<question_id>/<turn>`."""
    return f"{conversation.question_id}/{turn}"


def messages(conversation: Conversation, turn: int, answers: list[str]) -> list[dict[str, str]]:
    """The chat so far, ending with the user's turn number `turn`."""
    chat: list[dict[str, str]] = []
    for index in range(turn + 1):
        chat.append({"role": "user", "content": conversation.turns[index]})
        if index < turn:
            chat.append({"role": "assistant", "content": answers[index]})
    return chat


@dataclass(frozen=True, slots=True)
class Script:
    """How every conversation of a run is led."""

    config: RunConfig
    tokenizer: ChatTokenizer
    replayed: Answers | None
    """Another run's answers, or None: the model's own."""
    earlier: Mapping[tuple[int, str], Outcome]
    """What the journal already holds, by (seed, turn id)."""

    async def lead(
        self,
        conversation: Conversation,
        seed: int,
        slot: int,
        live: LiveEngine,
        keep: Callable[[Outcome], None],
    ) -> None:
        """Ask all turns that are not in the journal yet, and keep what comes of each."""
        answers: list[str] = []
        broken_by: str | None = None
        for turn in range(len(conversation.turns)):
            identity = turn_id(conversation, turn)
            outcome = self.earlier.get((seed, identity))
            if outcome is None:
                outcome = await self._turn(conversation, turn, seed, slot, live, answers, broken_by)
                await live.run_in_parser(partial(keep, outcome))
            if self.replayed is not None:
                answers.append(self.replayed.get((seed, identity), ""))
            elif isinstance(outcome, TurnRecord):
                answers.append(self.tokenizer.decode(outcome.output_ids))
            else:
                broken_by = broken_by or identity

    async def _turn(
        self,
        conversation: Conversation,
        turn: int,
        seed: int,
        slot: int,
        live: LiveEngine,
        answers: list[str],
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
            ids = await live.run_in_parser(lambda: self.tokenizer.chat_ids(chat))
        except TokenError as error:
            return failure("prompt", str(error))
        if len(ids) >= live.context_length:
            return failure("prompt", f"the prompt has {len(ids)} tokens, the context holds {live.context_length}")
        sampling = Sampling(self.config.temperature, self.config.max_tokens, seed)
        try:
            return await live.ask(Request(turn_id(conversation, turn), ids, sampling, slot), conversation.category)
        except RequestFailed as error:
            return failure("request", str(error))


def check_first_turns_fit(rows: tuple[Conversation, ...], tokenizer: ChatTokenizer, context_length: int) -> None:
    """Raise ConfigError before anything is run if a prompt is longer than the context."""
    for row in rows:
        num_tokens = len(tokenizer.chat_ids(messages(row, 0, [])))
        if num_tokens >= context_length:
            raise ConfigError(
                f"row {row.question_id} ({row.category}) has {num_tokens} prompt tokens, but the context holds "
                f"{context_length}; raise it with --set engine.context_length={num_tokens + 1024}, "
                "or leave its category out with --categories"
            )
