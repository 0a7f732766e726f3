"""One answer, as it came in, becomes one record."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from speed_bench.config import RunConfig
from speed_bench.engines import Dialect
from speed_bench.engines.answers import Chunk, Drafting
from speed_bench.engines.http import Exchange, pieces
from speed_bench.engines.reports import combined
from speed_bench.errors import RequestFailed
from speed_bench.runner.slices import Work
from speed_bench.tokens import ChatTokenizer
from speed_bench.types import Request, Sampling, SpecCounts, TurnRecord

CountThinking = Callable[[Sequence[int], Sequence[int | None]], int | None]
"""(prompt ids, output ids) -> how many of the latter are thinking, as the tokenizer can tell."""
PIECES_AT_ONCE = 16
"""So many events are parsed between two points where a read may come first: they take 40 to 80 µs."""
FINISHED = ("stop", "length")
"""How a whole answer ends. Any other reason is the engine's for not going on."""
NameUnnamed = Callable[[tuple[int | None, ...], str], tuple[int | None, ...]]
"""(ids with gaps, their text) -> ids: what the tokenizer can tell of tokens that the engine did not name."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked, besides the request itself."""

    category: str
    prompt_sha256: str
    segment: int
    segment_started_ns: int
    drafting: Drafting
    scheduled_ns: int | None = None
    """When the load wanted it sent, in an open loop."""
    repeat: int = 0


def sampling_of(config: RunConfig, tokenizer: ChatTokenizer, seed: int, max_tokens: int) -> Sampling:
    """How tokens are chosen. Every id that ends an answer of this model is named, for engines that know only one."""
    stop_ids = () if config.ignore_eos else tuple(sorted(tokenizer.eos_ids))
    return Sampling(config.temperature, max_tokens, seed, stop_ids, config.ignore_eos)


@contextmanager
def _hostile() -> Iterator[None]:
    """Whatever a server sends, it fails its own turn and nothing else."""
    try:
        yield
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        raise RequestFailed(f"the answer contradicts itself, or is of another form ({error!r})") from error


def read_turn(
    dialect: Dialect,
    request: Request,
    asked: Asked,
    exchange: Exchange,
    *,
    name_unnamed: NameUnnamed,
    engine_counts: SpecCounts | None,
    count_thinking: CountThinking | None = None,
) -> Work[TurnRecord]:
    """Parse and count one finished exchange, with breaks. Raises RequestFailed if it is not a whole answer."""
    started_ns = asked.segment_started_ns

    def seconds(at_ns: int) -> float:
        return (at_ns - started_ns) / 1e9

    chunks: list[Chunk] = []
    arrivals: dict[int, int] = {}
    output_ids: list[int | None] = []
    with _hostile():
        for number, piece in enumerate(pieces(exchange), 1):
            if number % PIECES_AT_ONCE == 0:
                yield
            if piece is None:
                continue
            at_ns, event = piece
            chunk = dialect.parse(event, len(output_ids))
            if chunk is None:
                continue
            chunks.append(chunk)
            token_ids = chunk.token_ids
            if token_ids:
                output_ids += name_unnamed(token_ids, chunk.text) if None in token_ids else token_ids
                arrivals[at_ns] = arrivals.get(at_ns, 0) + len(token_ids)
    finish_reason = next((chunk.finish_reason for chunk in reversed(chunks) if chunk.finish_reason), None)
    if finish_reason is None:
        raise RequestFailed(f"the stream ended after {len(output_ids)} tokens without a finish reason")
    if finish_reason not in FINISHED:
        raise RequestFailed(f"the engine gave the request up after {len(output_ids)} tokens: {finish_reason}")
    if not output_ids:
        raise RequestFailed("the answer is empty: not one token, not even EOS")
    if len(output_ids) > request.sampling.max_tokens:
        raise RequestFailed(f"{len(output_ids)} tokens were sent, {request.sampling.max_tokens} were asked for")
    yield
    said = combined([chunk.report for chunk in chunks]).num_tokens
    if said is not None and said != len(output_ids):
        raise RequestFailed(f"the engine counts {said} output tokens, but sent {len(output_ids)}")
    yield
    with _hostile():
        counts, last_step = dialect.count(chunks, len(output_ids), asked.drafting)
        yield
        num_thinking = count_thinking(request.prompt_ids, output_ids) if count_thinking else None
    yield
    return TurnRecord(
        id=request.id,
        category=asked.category,
        seed=request.sampling.seed,
        segment=asked.segment,
        slot=request.slot,
        prompt_len=len(request.prompt_ids),
        prompt_sha256=asked.prompt_sha256,
        output_ids=tuple(output_ids),
        prefill_tokens=dialect.PREFILL_TOKENS,
        sent_at_s=seconds(exchange.sent_at_ns),
        arrivals=tuple([((at_ns - started_ns) / 1e9, num) for at_ns, num in arrivals.items()]),
        finished_at_s=seconds(exchange.finished_at_ns),
        finish_reason=finish_reason,
        last_step=last_step,
        counts=counts,
        engine_counts=engine_counts,
        scheduled_at_s=None if asked.scheduled_ns is None else seconds(min(asked.scheduled_ns, exchange.sent_at_ns)),
        repeat=asked.repeat,
        num_thinking_tokens=num_thinking,
    )
