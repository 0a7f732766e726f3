"""What every dialect must do, on bytes that its real engine sent.

A recording is a folder `recordings/<engine>` with `<case>.sse` (the stream), `<case>.before.txt`
and `<case>.after.txt` (the engine's counters around it) and `props.json` (what it says of itself).
"""

from pathlib import Path

import orjson
import pytest

from speed_bench.config import resolve
from speed_bench.engines import ENGINES, Dialect, dialect
from speed_bench.engines.http import Exchange, events
from speed_bench.errors import ConfigError, EngineError, RequestFailed
from speed_bench.runner.turn import Asked, read_turn
from speed_bench.types import Request, Sampling, SpecCounts, TurnRecord

RECORDINGS = Path(__file__).parent.parent / "recordings"
CASES = ("emoji", "eos", "one-token")
REQUEST = Request("0" * 32 + "/0", (1, 2, 3), Sampling(0.0, 48, 0), slot=0)
ASKED = Asked("qa", "00" * 32, 0, 1_000_000_000)

everywhere = pytest.mark.parametrize("name", sorted(ENGINES))
recorded = pytest.mark.parametrize("case", CASES)


def stream(name: str, case: str) -> Exchange:
    """The recorded answer, one event per read, a millisecond apart."""
    lines = (RECORDINGS / name / f"{case}.sse").read_bytes().split(b"\n\n")
    reads = [(2_000_000_000 + n * 1_000_000, line + b"\n\n") for n, line in enumerate(lines) if line.strip()]
    return Exchange(1_500_000_000, 200, reads, reads[-1][0])


def spent(speaks: Dialect, name: str, case: str) -> SpecCounts:
    """The difference of the recorded counters."""
    before, after = ((RECORDINGS / name / f"{case}.{when}.txt").read_text() for when in ("before", "after"))
    return speaks.counters(after).since(speaks.counters(before))


def turn(name: str, case: str) -> TurnRecord:
    return read_turn(
        dialect(name), REQUEST, ASKED, stream(name, case), name_unnamed=lambda ids, _: ids, engine_counts=None
    )


@everywhere
@recorded
def test_the_counts_of_a_turn_equal_the_engines_own(name: str, case: str) -> None:
    counts, engine = turn(name, case).counts, spent(dialect(name), name, case)
    assert (counts.drafted, counts.accepted) == (engine.drafted, engine.accepted)
    if counts.verify_steps is not None:
        assert counts.verify_steps == engine.verify_steps


@everywhere
@recorded
def test_every_output_token_is_either_from_prefill_or_from_a_step(name: str, case: str) -> None:
    record = turn(name, case)
    in_steps = record.num_output_tokens - record.prefill_tokens
    counts = record.counts
    assert counts.num_steps == in_steps - counts.accepted + sum(
        step.accepted + 1 - step.emitted for step in counts.per_step
    )
    if counts.aligned:
        assert sum(step.emitted for step in counts.per_step) == in_steps


@everywhere
def test_a_one_token_answer_has_no_step(name: str) -> None:
    record = turn(name, "one-token")
    assert record.num_output_tokens == 1
    assert (record.counts.num_steps, record.counts.per_step, record.finish_reason) == (0, (), "length")


@everywhere
def test_eos_is_an_output_token_and_leaves_the_last_step_unknown(name: str) -> None:
    record = turn(name, "eos")
    assert (record.finish_reason, record.last_step) == ("stop", "unknown")
    assert record.output_ids[-1] == 2


@everywhere
def test_reads_that_merge_several_events_change_arrivals_and_nothing_else(name: str) -> None:
    apart = stream(name, "emoji")
    merged = Exchange(apart.sent_at_ns, 200, [(apart.finished_at_ns, apart.body)], apart.finished_at_ns)
    speaks = dialect(name)

    def read(exchange: Exchange) -> TurnRecord:
        return read_turn(speaks, REQUEST, ASKED, exchange, name_unnamed=lambda ids, _: ids, engine_counts=None)

    one, many = read(merged), read(apart)
    assert (one.counts, one.output_ids, one.last_step) == (many.counts, many.output_ids, many.last_step)
    assert len(one.arrivals) == 1 < len(many.arrivals)
    assert one.sent_at_s == 0.5


@everywhere
def test_a_stream_that_is_cut_anywhere_is_a_failed_request(name: str) -> None:
    whole = stream(name, "eos")
    for kept in range(len(whole.reads)):
        cut = Exchange(whole.sent_at_ns, 200, whole.reads[:kept], whole.finished_at_ns)
        with pytest.raises(RequestFailed, match="without a finish reason"):
            read_turn(dialect(name), REQUEST, ASKED, cut, name_unnamed=lambda ids, _: ids, engine_counts=None)


@everywhere
@pytest.mark.parametrize(
    "event", [b"", b"{", b"[]", b"null", b"3", b"{}", b'{"error": {"message": "no slot"}}', b"\xff"]
)
def test_an_event_that_is_not_one_is_a_failed_request(name: str, event: bytes) -> None:
    with pytest.raises(RequestFailed):
        dialect(name).parse(event, 0)


@everywhere
def test_an_error_in_the_stream_is_told_in_the_engines_words(name: str) -> None:
    with pytest.raises(RequestFailed, match="no slot"):
        dialect(name).parse(b'{"error": {"code": 500, "message": "no slot"}}', 0)


@everywhere
def test_prompts_are_sent_as_token_ids(name: str) -> None:
    path, body = dialect(name).payload(REQUEST)
    assert path.startswith("/")
    assert (1, 2, 3) in body.values()
    orjson.dumps(body)


@everywhere
def test_an_algorithm_that_is_not_wired_is_never_started(name: str) -> None:
    config, _ = resolve({"engine": name})
    with pytest.raises((ConfigError, EngineError), match="has no algorithm 'telepathy'"):
        dialect(name).launch(config.model_copy(update={"algorithm": "telepathy"}), model=Path("m"), draft=None, port=1)


@everywhere
def test_counters_that_are_not_there_are_unknown_not_zero(name: str) -> None:
    counters = dialect(name).counters("# nothing of interest\nother_total 3\n")
    assert (counters.drafted, counters.accepted, counters.verify_steps) == (None, None, None)


@everywhere
def test_what_the_engine_says_of_itself_is_recorded_without_paths(name: str) -> None:
    described = dialect(name).describe(orjson.loads((RECORDINGS / name / "props.json").read_bytes()))
    assert described["context_length"] == 8192
    assert "/" not in "".join(str(value) for value in described.values())


@everywhere
def test_events_are_split_the_same_wherever_the_network_cuts(name: str) -> None:
    body = stream(name, "emoji").body
    whole = [payload for _, payload in events(Exchange(0, 200, [(1, body)]))]
    for size in (1, 7, 100):
        pieces = [(n, body[n : n + size]) for n in range(0, len(body), size)]
        assert [payload for _, payload in events(Exchange(0, 200, pieces))] == whole
