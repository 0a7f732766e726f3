"""What every dialect must do, on bytes that its real engine sent: the same request in, the same record out.

A recording is a folder `recordings/<engine>` with, for each case, `<case>.sse` (the stream), `<case>.before.txt` and
`<case>.after.txt` (the engine's counters around it), and where what happened is known from elsewhere,
`<case>.truth.json`. Beside them lies what the engine says of itself. Every case goes through every test;
how engines differ stands in one table, `RECORDED`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from speed_bench.config import EMBEDDED, resolve
from speed_bench.engines import ENGINES, Dialect, dialect
from speed_bench.engines.answers import Drafting
from speed_bench.engines.http import Exchange, events
from speed_bench.errors import EngineError, RequestFailed
from speed_bench.runner.slices import at_once
from speed_bench.runner.turn import Asked, read_turn
from speed_bench.types import LastStep, Request, Sampling, SpecCounts, TurnRecord

RECORDINGS = Path(__file__).parent.parent / "recordings"
PLAIN, ALWAYS, LOOKUP = Drafting(0), Drafting(3, always=True), Drafting(3)
EVERYTHING = frozenset({"drafted", "accepted", "verify_steps", "num_steps", "per_step", "aligned"})


@dataclass(frozen=True)
class Recorded:
    """How an engine differs from the others."""

    drafting: Drafting
    """Of the server that was recorded, unless `drafting_of` says otherwise of a case."""
    last_step: LastStep
    """How sure the last step of an answer is that EOS ended."""
    may_be_missing: int
    """Events at the end of a stream that only say that it ends."""
    info: tuple[str, str | None]
    """What it says of itself: its own page, and its models."""
    context_length: int | None
    """What it says there of its context."""
    drafting_of: Mapping[str, Drafting] = field(default_factory=dict)
    """By how the names of cases begin."""
    unknown: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """What a case cannot tell; of any other it tells everything."""
    failed: Mapping[str, str] = field(default_factory=dict)
    """Cases that are a failed request, and its sentence."""
    counted: frozenset[str] = frozenset({"drafted", "accepted", "verify_steps"})
    """What it counts over all requests."""
    prefill_tokens: int = 1


RECORDED = {
    "llama-cpp": Recorded(
        drafting=Drafting(8),
        last_step="unknown",
        may_be_missing=0,
        info=("props.json", None),
        context_length=8192,
        unknown={"emoji": frozenset({"verify_steps", "aligned"})},
    ),
    "vllm": Recorded(
        drafting=ALWAYS,
        last_step="complete",
        may_be_missing=1,
        info=("version.json", "models.json"),
        context_length=1024,
        drafting_of={"none": PLAIN, "emoji": LOOKUP, "ngram": LOOKUP, "suffix": Drafting(8)},
        unknown={"ngram": frozenset({"aligned"}), "stopped": EVERYTHING},
        failed={
            "broken": "the engine answered in the middle of the stream: EngineCore encountered an issue",
            "error-vocabulary": "the engine answered in the middle of the stream: Token id 60000 is out of vocabulary",
        },
    ),
    "sglang": Recorded(
        drafting=PLAIN,
        last_step="complete",
        may_be_missing=1,
        info=("server_info.json", "models.json"),
        context_length=2048,
        drafting_of={"spec-": ALWAYS, "standalone": ALWAYS},
        unknown=dict.fromkeys(("spec-slow", "spec-slow-delta"), frozenset({"per_step", "aligned"})),
        failed={
            "spec-abort": "the engine gave the request up: no room",
            "spec-drop-delta": "the engine gave the request up: left the queue",
        },
        counted=frozenset({"verify_steps"}),
    ),
    "tensorrt-llm": Recorded(
        drafting=LOOKUP,
        last_step="complete",
        may_be_missing=1,
        info=("version.json", "models.json"),
        context_length=None,
        drafting_of={"none": PLAIN},
        unknown={
            "draft": frozenset({"per_step"}),
            "emoji": frozenset({"per_step"}),
            "merged": frozenset({"per_step", "aligned"}),
            "older": frozenset({"drafted", "accepted", "verify_steps", "per_step"}),
        },
        failed={"error-stream": "the engine answered in the middle of the stream: Request was dropped by the executor"},
    ),
}
REQUEST = Request("0" * 32 + "/0", (1, 2, 3), Sampling(0.5, 48, 7, (2, 5)), slot=0)
NO_TOKENS = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 0}}
STREAMS = [
    (name, path.stem)
    for name, row in RECORDED.items()
    for path in sorted((RECORDINGS / name).glob("*.sse"))
    if path.stem not in row.failed
]

everywhere = pytest.mark.parametrize("name", ENGINES)
recorded = pytest.mark.parametrize("name", RECORDED)
every_stream = pytest.mark.parametrize(("name", "case"), STREAMS)


def stream(name: str, case: str) -> Exchange:
    """The recorded answer, one event per read, a millisecond apart."""
    lines = (RECORDINGS / name / f"{case}.sse").read_bytes().split(b"\n\n")
    reads = [(2_000_000_000 + n * 1_000_000, line + b"\n\n") for n, line in enumerate(lines) if line.strip()]
    return Exchange(1_500_000_000, 200, reads, reads[-1][0])


def read(name: str, case: str, exchange: Exchange, max_tokens: int = 4096) -> TurnRecord:
    """The record of an answer, by a server that drafts as the one of this case did."""
    row = RECORDED[name]
    drafting = next((how for start, how in row.drafting_of.items() if case.startswith(start)), row.drafting)
    asked = Asked("qa", "00" * 32, 0, 1_000_000_000, drafting)
    request = replace(REQUEST, sampling=replace(REQUEST.sampling, max_tokens=max_tokens))
    work = read_turn(dialect(name), request, asked, exchange, name_unnamed=lambda ids, _: ids, engine_counts=None)
    return at_once(work)


def turn(name: str, case: str) -> TurnRecord:
    return read(name, case, stream(name, case))


def without(exchange: Exchange, at: int) -> Exchange:
    """The same answer with one event missing."""
    reads = [read for number, read in enumerate(exchange.reads) if number != at]
    return Exchange(exchange.sent_at_ns, 200, reads, exchange.finished_at_ns)


def spent(speaks: Dialect, name: str, case: str) -> SpecCounts:
    """The difference of the recorded counters."""
    before, after = ((RECORDINGS / name / f"{case}.{when}.txt").read_text() for when in ("before", "after"))
    return speaks.counters(after).since(speaks.counters(before))


def truth(name: str, case: str) -> dict[str, Any]:
    """What happened, in one form: recordings of different engines write it differently."""
    told = orjson.loads((RECORDINGS / name / f"{case}.truth.json").read_bytes())
    reason = told["finish_reason"]
    steps = [tuple(step[key] for key in ("drafted", "accepted", "emitted")) for step in told["steps"]]
    return {
        "output_ids": tuple(told["output_ids"]),
        "finish_reason": reason["type"] if isinstance(reason, dict) else reason,
        "num_arrivals": told["chunks"] if "chunks" in told else len(told["tokens_per_arrival"]),
        "drafted": sum(drafted for drafted, _, _ in steps),
        "accepted": sum(accepted for _, accepted, _ in steps),
        "verify_steps": sum(drafted > 0 for drafted, _, _ in steps),
        "num_steps": len(steps),
        "per_step": steps,
    }


class TestStreams:
    def test_every_engine_has_the_cases_that_all_are_compared_by(self) -> None:
        assert set(RECORDED) == set(ENGINES) - {"simulator"}
        for name, row in RECORDED.items():
            cases = {path.stem for path in (RECORDINGS / name).glob("*.sse")}
            assert {"emoji", "eos", "one-token", *row.failed, *row.unknown} <= cases

    @every_stream
    def test_a_case_tells_everything_but_what_it_cannot(self, name: str, case: str) -> None:
        counts = turn(name, case).counts
        told = {} if counts is None else {each: getattr(counts, each) for each in EVERYTHING}
        unknown = {each for each in EVERYTHING if told.get(each) is None or told[each] is False}
        assert unknown == RECORDED[name].unknown.get(case, frozenset())

    @every_stream
    def test_the_record_has_the_shape_that_all_have(self, name: str, case: str) -> None:
        record = turn(name, case)
        assert record.output_ids
        assert (record.prefill_tokens, record.prompt_len, record.seed) == (RECORDED[name].prefill_tokens, 3, 7)
        assert sum(num for _, num in record.arrivals) == record.num_output_tokens
        assert record.finish_reason in ("stop", "length")
        assert (record.sent_at_s, record.arrivals[0][0]) == (0.5, 1.0)
        assert all(token_id is None or 0 <= token_id < 49152 for token_id in record.output_ids)
        assert (None in record.output_ids) == ((name, case) == ("llama-cpp", "emoji")), "the others name every token"

    @every_stream
    def test_the_counts_of_a_turn_equal_the_engines_own(self, name: str, case: str) -> None:
        counts, engine = turn(name, case).counts, spent(dialect(name), name, case)
        counted = {each: getattr(engine, each) for each in ("drafted", "accepted", "verify_steps")}
        assert {each for each, num in counted.items() if num is not None} <= RECORDED[name].counted
        if counts is None:
            return
        for each, theirs in counted.items():
            ours = getattr(counts, each)
            assert None in (ours, theirs) or ours == theirs, each
        if counts.per_step is not None and engine.per_position is not None and counts.aligned:
            accepted = [step.accepted for step in counts.per_step]
            positions = range(1, len(engine.per_position) + 1)
            assert [sum(right >= at for right in accepted) for at in positions] == list(engine.per_position)

    @every_stream
    def test_every_output_token_is_either_from_prefill_or_from_a_step(self, name: str, case: str) -> None:
        record = turn(name, case)
        counts, in_steps = record.counts, record.num_output_tokens - record.prefill_tokens
        if counts is None:
            return
        if counts.per_step is not None:
            cut = sum(step.accepted + 1 - step.emitted for step in counts.per_step)
            assert counts.num_steps == in_steps - counts.accepted + cut
        if counts.aligned:
            assert sum(counts.emitted or [step.emitted for step in counts.per_step]) == in_steps
        if counts.histogram is not None:
            assert sum(counts.histogram) == counts.verify_steps
            assert sum(at * num for at, num in enumerate(counts.histogram)) == counts.accepted

    @recorded
    def test_the_engine_counts_what_it_can_be_compared_by(self, name: str) -> None:
        cases = [case for engine, case in STREAMS if engine == name]
        counts = [spent(dialect(name), name, case) for case in cases]
        for each in RECORDED[name].counted:
            assert any(getattr(engine, each) for engine in counts), each

    @pytest.mark.parametrize(
        ("name", "case"), [each for each in STREAMS if (RECORDINGS / each[0] / f"{each[1]}.truth.json").exists()]
    )
    def test_what_is_told_is_what_happened(self, name: str, case: str) -> None:
        record, happened = turn(name, case), truth(name, case)
        assert record.output_ids == happened["output_ids"]
        assert (record.finish_reason, len(record.arrivals)) == (happened["finish_reason"], happened["num_arrivals"])
        told = {each: getattr(record.counts, each) for each in EVERYTHING - {"aligned"}}
        assert {each: value for each, value in told.items() if value is not None} == {
            each: tuple(happened[each]) if each == "per_step" else happened[each]
            for each, value in told.items()
            if value is not None
        }
        if record.counts.aligned:
            emitted = record.counts.emitted or [step.emitted for step in record.counts.per_step]
            assert list(emitted) == [step[2] for step in happened["per_step"]]

    @recorded
    def test_a_one_token_answer_has_no_step(self, name: str) -> None:
        record = turn(name, "one-token")
        assert record.num_output_tokens == 1
        assert (record.counts.num_steps, record.counts.per_step, record.finish_reason) == (0, (), "length")
        assert record.last_step == "complete"

    @recorded
    def test_eos_is_an_output_token(self, name: str) -> None:
        record = turn(name, "eos")
        assert (record.finish_reason, record.last_step) == ("stop", RECORDED[name].last_step)
        assert record.output_ids[-1] == 2

    @every_stream
    def test_reads_that_merge_several_events_change_arrivals_and_nothing_else(self, name: str, case: str) -> None:
        apart = stream(name, case)
        merged = Exchange(apart.sent_at_ns, 200, [(apart.finished_at_ns, apart.body)], apart.finished_at_ns)
        one, many = read(name, case, merged), read(name, case, apart)
        assert (one.counts, one.output_ids, one.last_step) == (many.counts, many.output_ids, many.last_step)
        assert len(one.arrivals) == 1 <= len(many.arrivals)

    @every_stream
    def test_events_are_split_the_same_wherever_the_network_cuts(self, name: str, case: str) -> None:
        body = stream(name, case).body
        whole = [payload for _, payload in events(Exchange(0, 200, [(1, body)]))]
        for size in (1, 7, 100) if len(body) < 20_000 else (97,):
            pieces = [(n, body[n : n + size]) for n in range(0, len(body), size)]
            assert [payload for _, payload in events(Exchange(0, 200, pieces))] == whole


class TestFailures:
    @every_stream
    def test_a_stream_that_is_cut_anywhere_is_a_failed_request(self, name: str, case: str) -> None:
        whole = stream(name, case)
        needed = len(whole.reads) - RECORDED[name].may_be_missing
        for kept in range(needed):
            cut = Exchange(whole.sent_at_ns, 200, whole.reads[:kept], whole.finished_at_ns)
            with pytest.raises(RequestFailed, match=r"without (a finish reason|its usage)"):
                read(name, case, cut)
        shorter = Exchange(whole.sent_at_ns, 200, whole.reads[:needed], whole.finished_at_ns)
        assert read(name, case, shorter) == read(name, case, whole)

    @recorded
    def test_an_event_that_is_lost_on_the_way_is_a_failed_request(self, name: str) -> None:
        whole = stream(name, "eos")
        needed = len(whole.reads) - RECORDED[name].may_be_missing
        lost = []
        for at in range(needed):
            try:
                record = read(name, "eos", without(whole, at))
            except RequestFailed:
                lost.append(at)
            else:  # what is cumulative in every event makes up for one that is lost
                assert record.num_output_tokens == turn(name, "eos").num_output_tokens
        assert needed - 1 in lost, "without the last one nobody knows how it ended"
        assert name in ("llama-cpp", "sglang") or lost == list(range(needed))

    @pytest.mark.parametrize(
        ("name", "case", "sentence"),
        [(name, case, sentence) for name, row in RECORDED.items() for case, sentence in row.failed.items()],
    )
    def test_an_answer_that_the_engine_gave_up_is_told_in_its_words(self, name: str, case: str, sentence: str) -> None:
        with pytest.raises(RequestFailed) as failed:
            turn(name, case)
        assert str(failed.value).startswith(sentence)

    @recorded
    def test_an_answer_that_ends_for_another_reason_was_given_up(self, name: str) -> None:
        whole = stream(name, "eos")
        ends = re.compile(rb'"(stop|eos)"(?!:)')
        reads = [(at, ends.sub(b'"aborted"', data)) for at, data in whole.reads]
        with pytest.raises(RequestFailed, match=r"the engine gave the request up after \d+ tokens: aborted"):
            read(name, "eos", Exchange(whole.sent_at_ns, 200, reads, whole.finished_at_ns))

    @pytest.mark.parametrize(
        ("name", "events"),
        [
            ("vllm", [{"choices": [{"text": "", "token_ids": [], "finish_reason": "stop"}]}, NO_TOKENS]),
            ("tensorrt-llm", [{"choices": [{"text": "", "token_ids": [], "finish_reason": "stop"}]}, NO_TOKENS]),
            ("sglang", [{"output_ids": [], "meta_info": {"completion_tokens": 0, "finish_reason": {"type": "stop"}}}]),
            (
                "llama-cpp",
                [
                    {"content": "", "tokens": [], "tokens_predicted": 0, "stop": True, "stop_type": "eos"}
                    | {"timings": {"predicted_ms": 0.0}}
                ],
            ),
        ],
    )
    def test_not_one_token_is_no_answer(self, name: str, events: list[dict[str, Any]]) -> None:
        reads = [(2, b"data: " + orjson.dumps(event) + b"\n\n") for event in events]
        with pytest.raises(RequestFailed, match="the answer is empty: not one token, not even EOS"):
            read(name, "eos", Exchange(1, 200, reads, 2))

    @recorded
    def test_more_tokens_than_were_asked_for_are_no_answer(self, name: str) -> None:
        num = turn(name, "eos").num_output_tokens
        with pytest.raises(RequestFailed, match=f"{num} tokens were sent, {num - 1} were asked for"):
            read(name, "eos", stream(name, "eos"), max_tokens=num - 1)

    def test_sglang_refuses_a_request_inside_a_stream_that_began_well(self) -> None:
        answers = orjson.loads((RECORDINGS / "sglang" / "errors.json").read_bytes())
        streamed = {why: each for why, each in answers.items() if each["status"] == 200 and "data: " in each["body"]}
        assert {"too long, streamed", "no room for the answer, streamed"} <= set(streamed)
        for answer in streamed.values():
            body = answer["body"].encode()
            words = orjson.loads(next(events(Exchange(0, 200, [(1, body)])))[1])["error"]["message"]
            with pytest.raises(RequestFailed) as failed:
                read("sglang", "none", Exchange(1, 200, [(2, body)], 2))
            assert words in str(failed.value)

    @everywhere
    @pytest.mark.parametrize(
        "event", [b"", b"{", b"[]", b"null", b"3", b"{}", b'{"error": {"message": "no slot"}}', b"\xff", b"[DONE"]
    )
    def test_an_event_that_is_not_one_is_a_failed_request(self, name: str, event: bytes) -> None:
        with pytest.raises(RequestFailed):
            dialect(name).parse(event, 0)

    @everywhere
    @pytest.mark.parametrize(
        "event", [b'{"error": {"code": 500, "message": "no slot"}}', b'{"error": "no slot"}', b'{"error": ["no slot"]}']
    )
    def test_an_error_in_the_stream_is_told_in_the_engines_words(self, name: str, event: bytes) -> None:
        with pytest.raises(RequestFailed, match="no slot"):
            dialect(name).parse(event, 0)


class TestQuestions:
    @everywhere
    def test_a_request_is_token_ids_and_the_sampling_that_makes_runs_comparable(self, name: str) -> None:
        path, body = dialect(name).payload(REQUEST, "served")
        assert path.startswith("/")
        assert (1, 2, 3) in body.values(), "the prompt"
        asked = {**body, **body.get("sampling_params", {})}
        limit = asked.get("max_tokens", asked.get("n_predict", asked.get("max_new_tokens")))
        seed = asked.get("seed", asked.get("sampling_seed"))
        assert (asked["temperature"], asked["top_p"], limit, seed, asked["stream"]) == (0.5, 1.0, 48, 7, True)
        assert asked["ignore_eos"] is False
        assert name == "llama-cpp" or asked["stop_token_ids"] == (2, 5)
        assert body.get("model", "served") == "served"
        orjson.dumps(body)

    @pytest.mark.parametrize("path", sorted(RECORDINGS.glob("*/*.request.json")), ids=lambda path: path.name)
    def test_what_was_asked_when_it_was_recorded_is_what_a_run_asks(self, path: Path) -> None:
        body, speaks = orjson.loads(path.read_bytes()), dialect(path.parent.name)
        if path.name == "tokenize.request.json":
            assert speaks.tokenize_payload(body["prompt"], body["model"]) == ("/tokenize", body)
            return
        sampling = Sampling(
            body["temperature"], body["max_tokens"], body["seed"], tuple(body["stop_token_ids"]), body["ignore_eos"]
        )
        _, asked = speaks.payload(Request("q/0", tuple(body["prompt"]), sampling), body["model"])
        asked = orjson.loads(orjson.dumps(asked))
        assert asked == {key: value for key, value in body.items() if key in asked}
        assert set(body) - set(asked) <= {"stop"}, "a case about stop strings"

    @everywhere
    def test_ids_of_a_text_are_asked_for_without_any_that_are_added(self, name: str) -> None:
        asked = dialect(name).tokenize_payload("a text", "served")
        if name == "tensorrt-llm":
            assert asked is None, "its endpoint adds some"
            return
        path, body = asked
        assert path == "/tokenize"
        assert "a text" in body.values()
        assert body.get("add_special_tokens", body.get("add_special")) is False
        assert dialect(name).tokenize_answer(b'{"tokens": [1, 2], "count": 2}') == [1, 2]

    @everywhere
    def test_an_algorithm_that_is_not_wired_is_never_started(self, name: str) -> None:
        config, _ = resolve({"engine": name, "model": None if name in EMBEDDED else "org/model"})
        odd = config.model_copy(update={"algorithm": "telepathy"})
        with pytest.raises(EngineError, match="has no algorithm 'telepathy'; it has none, ngram"):
            dialect(name).launch(odd, model="m", draft=None, port=1, folder=Path("/run"))


class TestItself:
    @everywhere
    def test_counters_that_are_not_there_are_unknown_not_zero(self, name: str) -> None:
        counters = dialect(name).counters("# nothing of interest\nother_total 3\n")
        assert (counters.drafted, counters.accepted, counters.verify_steps) == (None, None, None)

    @recorded
    def test_a_page_of_counters_is_read_in_no_time_however_it_is_broken(self, name: str) -> None:
        names = ("vllm:spec_decode_num_x", "sglang:spec_verify_calls", "trtllm_spec_decode_num_x_tokens")
        text = "".join(f"{each}_total{{\n" for each in names) * 20_000  # a pattern that goes over lines takes minutes
        assert dialect(name).counters(text).accepted in (None, 0)

    @recorded
    def test_what_the_engine_says_of_itself_is_recorded_without_paths(self, name: str) -> None:
        row, speaks = RECORDED[name], dialect(name)
        info, models = (orjson.loads((RECORDINGS / name / file).read_bytes()) if file else None for file in row.info)
        [card] = models["data"] if models else [{}]
        described = speaks.describe(info, card)
        assert (
            described["context_length"] == row.context_length
            if row.context_length
            else not described.get("context_length")
        )
        assert "/" not in "".join(str(value) for value in described.values())
        assert all(value is None or isinstance(value, str | int | float) for value in described.values())
        assert card.get("owned_by", speaks.OWNED_BY) == speaks.OWNED_BY

    @everywhere
    def test_an_engine_that_says_nothing_of_itself_is_described_all_the_same(self, name: str) -> None:
        assert set(dialect(name).describe({}, {}).values()) == {None}
