"""The real vLLM on a CPU, measured as a user measures it; run by `make test-vllm`.

float32, because bfloat16 is not the same at every batch size. One server per way of drafting: to start one takes a
minute. SmolLM2 drafts something on real prompts; the random model is quick and does not stop.
"""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import orjson
import psutil
import pytest
from command import speed_bench
from live_server import live_server

from speed_bench.engines import vllm
from speed_bench.engines.answers import Chunk, Drafting
from speed_bench.engines.http import Connection, Exchange, Url, events
from speed_bench.records import RunRecords
from speed_bench.runner.journal import read_records
from speed_bench.types import Request, Sampling, SpecCounts

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1200)]

ROOT = Path(__file__).parent.parent.parent.parent
PYTHON = ROOT / ".venv-vllm" / "bin" / "python"
MODELS = ROOT / "build" / "models"
SETTINGS = {
    "engine": "vllm",
    "engine.python": str(PYTHON),
    "engine.context_length": 1024,
    "engine.dtype": "float32",
    "engine.extra.enforce_eager": True,
}
AS_FLAGS = [word for key, value in SETTINGS.items() if key != "engine" for word in ("--set", f"{key}={value}")]
TRIES = 10
"""Whether an API server that fell behind merges is up to how its tasks are scheduled."""
TURNS_MULTI = "coding,math,roleplay"


@pytest.fixture(autouse=True, scope="session")
def small_cache() -> Iterator[None]:
    """vLLM takes nearly all memory of a CPU for its cache unless told otherwise."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
        yield


@pytest.fixture(scope="module")
def ngram(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of SmolLM2 that looks drafts up in the text so far."""
    folder = tmp_path_factory.mktemp("ngram")
    model = str(MODELS / "smollm2")
    with live_server(folder, model=model, algorithm="ngram", draft_length=3, concurrency=8, **SETTINGS) as url:
        yield url


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of the random model with a random draft model: quick, and it never stops by itself."""
    folder = tmp_path_factory.mktemp("tiny")
    model, draft = str(MODELS / "tiny-llama"), str(MODELS / "tiny-llama-draft")
    settings = {**SETTINGS, "algorithm": "draft", "draft_length": 3, "concurrency": 64}
    with live_server(folder, model=model, draft=draft, **settings) as url:
        yield url


def counts_agree(records: RunRecords) -> None:
    """Whatever ran at once, the turns' integers are the engine's, in sum and position by position."""
    [segment] = records.segments
    spent = segment.counters_after.since(segment.counters_before)
    ours = [turn.counts for turn in records.turns]
    assert spent.drafted == sum(counts.drafted for counts in ours) > 0
    assert spent.accepted == sum(counts.accepted for counts in ours)
    assert spent.verify_steps == sum(counts.verify_steps for counts in ours)
    accepted = [step.accepted for counts in ours for step in counts.per_step if step.drafted]
    assert [sum(a >= k for a in accepted) for k in range(1, len(spent.per_position) + 1)] == list(spent.per_position)


def test_a_report_of_the_starter_prompts_with_drafts_and_baseline(tmp_path: Path) -> None:
    """The 22 prompts of the quick protocol, with a draft model and without: a run starts and stops both servers."""
    folder = tmp_path / "run"
    arguments = ("--engine", "vllm", "--model", MODELS / "smollm2", "--algorithm", "draft")
    done = speed_bench(
        "run",
        *arguments,
        "--draft",
        MODELS / "smollm2-draft",
        *AS_FLAGS,
        "--max-tokens",
        32,
        "--out",
        folder,
        timeout=1100,
    )
    records, baseline = read_records(folder), read_records(folder / "baseline")
    scores = orjson.loads((folder / "scores.json").read_bytes())
    assert records.failures == baseline.failures == ()
    assert scores["num_conversations"] == 22
    assert {turn.counts.origin for turn in records.turns} == {"engine"}
    for turn in records.turns:
        ours, engine = turn.counts, turn.engine_counts
        assert (ours.drafted, ours.accepted, ours.verify_steps) == (
            engine.drafted,
            engine.accepted,
            engine.verify_steps,
        )
        assert ours.aligned
        assert ours.plain_steps == 0  # a draft model always drafts: what `algorithms` says
    counts_agree(records)
    assert scores["baseline"]["identical_share"]["value"] == 1.0
    assert all(turn.output_ids == other.output_ids for turn, other in zip(records.turns, baseline.turns, strict=True))
    assert scores["reconciliation"]["equal"] is True
    assert scores["acceptance"]["overall"]["acceptance_length"]["value"] > 1.2
    assert records.segments[0].engine["version"].startswith("0.32")
    assert records.segments[0].engine["tokenizer_compared"] is True
    assert "counts equal the engine's own" in done.stdout


def test_suffixes_of_an_answer_draft_for_it(tmp_path: Path) -> None:
    model, folder = str(MODELS / "smollm2"), tmp_path / "run"
    with live_server(tmp_path, model=model, algorithm="suffix", draft_length=8, concurrency=2, **SETTINGS) as url:
        flags = ("--algorithm", "suffix", "--draft-length", 8, "--concurrency", 2, "--categories", "coding,roleplay")
        speed_bench("run", "--url", url, *flags, "--max-tokens", 40, "--out", folder, timeout=900)
    records = read_records(folder)
    assert records.failures == ()
    counts_agree(records)
    assert any(turn.counts.accepted > 0 for turn in records.turns)


@pytest.mark.parametrize("concurrency", [1, 8])
def test_ngram_drafts_with_plain_steps_between_them(ngram: str, tmp_path: Path, concurrency: int) -> None:
    flags = ("--algorithm", "ngram", "--draft-length", 3, "--concurrency", concurrency, "--categories", TURNS_MULTI)
    enough = ("--limit-per-category", 2 if concurrency == 1 else 3)  # for every stream to have a conversation
    speed_bench("run", "--url", ngram, *flags, *enough, "--max-tokens", 40, "--out", tmp_path / "run", timeout=900)
    records = read_records(tmp_path / "run")
    assert records.failures == ()
    assert any(turn.id.endswith("/1") for turn in records.turns)
    counts_agree(records)
    if concurrency == 1:
        for turn in records.turns:
            ours, engine = turn.counts, turn.engine_counts
            assert (ours.drafted, ours.accepted) == (engine.drafted, engine.accepted)
    told = [turn.counts for turn in records.turns if turn.counts.num_steps is not None]
    assert told
    assert sum(counts.plain_steps for counts in told) > 0
    for turn in records.turns:
        if turn.counts.num_steps is not None:
            emitted = sum(step.emitted for step in turn.counts.per_step)
            assert emitted == turn.num_output_tokens - turn.prefill_tokens
    scores = orjson.loads((tmp_path / "run" / "scores.json").read_bytes())
    assert scores["reconciliation"]["equal"] is True


def test_what_was_drafted_does_not_depend_on_how_many_run_at_once(tiny: str, tmp_path: Path) -> None:
    outcomes = []
    for concurrency in (1, 8):
        folder = tmp_path / f"c{concurrency}"
        flags = ("--algorithm", "draft", "--draft-length", 3, "--concurrency", concurrency, "--categories", "qa,math")
        speed_bench(
            "run", "--url", tiny, *flags, "--limit-per-category", 4, "--max-tokens", 48, "--out", folder, timeout=600
        )
        records = read_records(folder)
        counts_agree(records)
        outcomes.append({turn.id: (turn.output_ids, turn.counts.accepted) for turn in records.turns})
    assert outcomes[0] == outcomes[1]


def ask(url: str, num_tokens: int) -> tuple[str, bytes]:
    """The request of a turn of the random model, ready to be sent."""
    path, body = vllm.payload(Request("0" * 32 + "/0", (1, 4093, 198), Sampling(0.0, num_tokens, 0)), "tiny-llama")
    return path, json.dumps(body).encode()


def counts_of(reads: list[tuple[int, bytes]]) -> tuple[list[int], SpecCounts]:
    """Tokens of every chunk, and the counts of the turn."""
    chunks: list[Chunk] = []
    for _, event in events(Exchange(0, 200, reads)):
        chunk = vllm.parse(event, sum(len(each.token_ids) for each in chunks))
        if chunk is not None:
            chunks.append(chunk)
    sizes = [len(chunk.token_ids) for chunk in chunks if chunk.token_ids]
    counts, _ = vllm.count(chunks, sum(sizes), Drafting(3, always=True))
    return sizes, counts


def test_chunks_that_vllm_merges_are_noticed_and_change_no_count(tiny: str) -> None:
    """Its API server, stopped here for a while, gets several steps of its engine at once.

    Chunks are no steps then, and the counts are what they were. A client that reads late merges nothing: what it has
    not read yet waits in the socket, chunk by chunk.
    """
    path, body = ask(tiny, 900)
    sizes, counts = counts_of(asyncio.run(answer(tiny, path, body, None)).reads)
    assert counts.aligned
    longest = 0
    for _ in range(TRIES):
        merged_sizes, merged_counts = counts_of(asyncio.run(answer(tiny, path, body, api_server(tiny))).reads)
        assert sum(merged_sizes) == sum(sizes)
        assert merged_counts == counts
        longest = max(longest, *merged_sizes)
        if longest > 4:  # more than a step can emit
            return
    pytest.fail(f"its API server stood still {TRIES} times, and no chunk had more than {longest} tokens")


def api_server(url: str) -> psutil.Process:
    """The process that listens there."""
    port = urlsplit(url).port
    [found] = {
        each.pid for each in psutil.net_connections("tcp") if each.status == "LISTEN" and each.laddr.port == port
    }
    return psutil.Process(found)


def num_reads(connection: Connection) -> int:
    """Of the answer that it waits for."""
    exchange = connection._reader and connection._reader.exchange
    return len(exchange.reads) if exchange else 0


async def answer(url: str, path: str, body: bytes, stopped: psutil.Process | None) -> Exchange:
    """The answer to a request, during which a process stands still for two seconds, as soon as some of it is here."""
    connection = Connection(Url.parse(url))
    asked = asyncio.create_task(connection.request("POST", path, body))
    if stopped is not None:
        while not asked.done() and not num_reads(connection):
            await asyncio.sleep(0.001)
        stopped.suspend()
        await asyncio.sleep(2)
        stopped.resume()
    exchange = await asked
    connection.close()
    return exchange
