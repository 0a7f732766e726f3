"""`speed-bench run` on the embedded engine: real prompts, real drafts, real counts."""

from collections import Counter
from pathlib import Path

import orjson
import pytest
from command import engine_pids, outcome, speed_bench
from small_models import without_layers

from speed_bench.data.editions import load, select
from speed_bench.data.schema import CATEGORIES
from speed_bench.models import resolve_gguf
from speed_bench.records import RunRecords
from speed_bench.runner.journal import read_records
from speed_bench.tokens import ChatTokenizer, prompt_sha256

SMALL = ("--limit-per-category", 2, "--categories", "coding,math,multilingual,qa", "--max-tokens", 24)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run with its baseline, shared by the tests of this module; nothing may change it."""
    folder = tmp_path_factory.mktemp("runs") / "small"
    done = speed_bench("run", *SMALL, "--out", folder)
    (folder.parent / "stdout.txt").write_text(done.stdout)
    return folder


@pytest.fixture(scope="module")
def records(folder: Path) -> RunRecords:
    return read_records(folder)


@pytest.fixture(scope="module")
def scores(folder: Path) -> dict:
    return orjson.loads((folder / "scores.json").read_bytes())


def test_every_turn_is_recorded_once(records: RunRecords) -> None:
    rows = select(load("open", "starter").rows, ("coding", "math", "multilingual", "qa"), 2)
    assert Counter(turn.id for turn in records.turns) == {
        f"{row.question_id}/{turn}": 1 for row in rows for turn in range(len(row.turns))
    }
    assert records.failures == ()
    assert len(records.segments) == 1
    assert records.segments[0].whole


def test_drafted_and_accepted_equal_the_engines_counters_turn_by_turn_and_in_sum(records: RunRecords) -> None:
    for turn in records.turns:
        ours, engine = turn.counts, turn.engine_counts
        assert (ours.drafted, ours.accepted) == (engine.drafted, engine.accepted)
        if ours.verify_steps is not None:
            assert ours.verify_steps == engine.verify_steps
    spent = records.segments[0].counters_after.since(records.segments[0].counters_before)
    assert spent.drafted == sum(turn.counts.drafted for turn in records.turns) > 0
    assert spent.accepted == sum(turn.counts.accepted for turn in records.turns) > 0


def test_the_steps_equal_the_engines_counts_position_by_position(records: RunRecords) -> None:
    aligned = [turn for turn in records.turns if turn.counts.aligned]
    assert aligned
    for turn in aligned:
        engine = turn.engine_counts.per_position or ()
        accepted = [step.accepted for step in turn.counts.per_step]
        assert [sum(a >= k for a in accepted) for k in range(1, len(engine) + 1)] == list(engine)
        assert max(accepted, default=0) <= len(engine)


def test_the_steps_of_a_turn_add_up_to_its_tokens(records: RunRecords) -> None:
    for turn in records.turns:
        if turn.counts.aligned:
            assert sum(step.emitted for step in turn.counts.per_step) == turn.num_output_tokens - turn.prefill_tokens
        assert turn.num_output_tokens <= 24
        assert (turn.finish_reason == "length") == (turn.num_output_tokens == 24)


def test_speculation_does_not_change_a_token(folder: Path, records: RunRecords) -> None:
    baseline = {turn.id: turn.output_ids for turn in read_records(folder / "baseline").turns}
    assert {turn.id: turn.output_ids for turn in records.turns} == baseline
    assert not any(turn.counts.drafted for turn in read_records(folder / "baseline").turns)


def test_later_turns_carry_the_models_own_answers(records: RunRecords) -> None:
    tokenizer = ChatTokenizer.from_gguf(resolve_gguf("smollm2-135m-instruct"))
    by_id = {turn.id: turn for turn in records.turns}
    multiturn = [row for row in load("open", "starter").rows if row.multiturn and f"{row.question_id}/1" in by_id]
    assert multiturn
    for row in multiturn:
        first, second = by_id[f"{row.question_id}/0"], by_id[f"{row.question_id}/1"]
        chat = [
            {"role": "user", "content": row.turns[0]},
            {"role": "assistant", "content": tokenizer.decode(first.output_ids)},
            {"role": "user", "content": row.turns[1]},
        ]
        ids = tokenizer.chat_ids(chat)
        assert (second.prompt_len, second.prompt_sha256) == (len(ids), prompt_sha256(ids))


def test_the_scores_say_what_happened(scores: dict, records: RunRecords) -> None:
    assert scores["schema_version"] == 1
    assert set(scores["acceptance"]["categories"]) == {"coding", "math", "multilingual", "qa"} <= set(CATEGORIES)
    overall = scores["acceptance"]["overall"]
    assert overall["acceptance_length"]["n"] == 8
    assert (
        overall["acceptance_length"]["low"]
        <= overall["acceptance_length"]["value"]
        <= overall["acceptance_length"]["high"]
    )
    assert scores["reconciliation"]["equal"] is True
    assert scores["reconciliation"]["turns"]["drafted"] == scores["reconciliation"]["engine"]["drafted"] > 0
    assert scores["baseline"]["identical_share"]["value"] == 1.0
    assert scores["baseline"]["speedup_output_tps"]["value"] > 0
    assert (scores["num_turns"], scores["num_failures"]) == (len(records.turns), 0)


def test_the_terminal_shows_the_table_and_where_the_run_lies(folder: Path) -> None:
    shown = (folder.parent / "stdout.txt").read_text()
    for word in (
        "acceptance length",
        "drafts",
        "conditional",
        "Output",
        "User",
        "overall",
        "multilingual",
        "speed-up over",
    ):
        assert word in shown
    assert f"run folder: {folder}" in shown
    assert "turns whose tokens equal the baseline's: 100.0% of" in shown
    assert "counts equal the engine's own" in shown


def test_warm_up_is_done_and_never_recorded(folder: Path, records: RunRecords) -> None:
    num_requests = (folder / "engine-0.log").read_text("utf-8", "replace").count("processing task")
    assert num_requests == len(records.turns) + 1
    assert all(turn.category != "warm-up" for turn in records.turns)


def test_the_engine_has_as_many_threads_as_the_config_says(folder: Path) -> None:
    assert "n_threads = 1" in (folder / "engine-0.log").read_text("utf-8", "replace")


def test_no_engine_is_left_behind(folder: Path) -> None:
    assert engine_pids(folder) == []
    assert not (folder / "engine.pid").exists()


def test_scoring_again_gives_the_same_scores(folder: Path, scores: dict) -> None:
    speed_bench("score", folder)
    assert orjson.loads((folder / "scores.json").read_bytes()) == scores


def test_resuming_a_finished_run_asks_nothing_again(folder: Path) -> None:
    before = outcome(folder)
    speed_bench("run", "--out", folder, "--resume")
    assert outcome(folder) == before
    assert len(read_records(folder).segments) == 1


@pytest.mark.long
def test_a_replayed_history_gives_every_turn_the_same_input(folder: Path, records: RunRecords, tmp_path: Path) -> None:
    out = tmp_path / "replayed"
    speed_bench("run", *SMALL[:-1], 8, "--no-baseline", "--history", f"replay:{folder}", "--out", out)
    replayed = {turn.id: turn.prompt_sha256 for turn in read_records(out).turns}
    assert replayed == {turn.id: turn.prompt_sha256 for turn in records.turns}
    assert not (out / "baseline").exists()


def test_concurrent_streams_lose_nothing_and_agree_with_the_engine(records: RunRecords, tmp_path: Path) -> None:
    out = tmp_path / "concurrent"
    speed_bench("run", *SMALL, "--no-baseline", "--concurrency", 3, "--out", out, "--set", "engine.context_length=2048")
    concurrent = read_records(out)
    assert {turn.id for turn in concurrent.turns} == {turn.id for turn in records.turns}
    assert {turn.slot for turn in concurrent.turns} == {0, 1, 2}
    assert all(turn.engine_counts is None for turn in concurrent.turns)
    found = orjson.loads((out / "scores.json").read_bytes())["reconciliation"]
    assert found["equal"] is True, found


@pytest.mark.long
def test_a_draft_model_drafts_and_changes_nothing(records: RunRecords, tmp_path: Path) -> None:
    draft = without_layers(resolve_gguf("smollm2-135m-instruct"), tmp_path / "draft.gguf", {22, 24, 25})
    out = tmp_path / "drafted"
    chosen = (*SMALL[:-3], "math", "--max-tokens", 24, "--no-baseline")
    speed_bench("run", *chosen, "--algorithm", "draft", "--draft", draft, "--out", out)
    drafted = read_records(out)
    expected = {turn.id: turn.output_ids for turn in records.turns if turn.category == "math"}
    assert {turn.id: turn.output_ids for turn in drafted.turns} == expected
    assert all(turn.counts.drafted and turn.counts.plain_steps is not None for turn in drafted.turns)
    scores = orjson.loads((out / "scores.json").read_bytes())
    assert scores["acceptance"]["overall"]["acceptance_length"]["value"] > 1.3
    assert scores["reconciliation"]["equal"] is True


@pytest.mark.long
def test_sampling_at_temperature_one_depends_on_the_seed_alone(tmp_path: Path) -> None:
    def run(name: str, *seeds: int) -> dict[tuple[int, str], tuple]:
        flags = [part for seed in seeds for part in ("--seed", seed)]
        arguments = ("--categories", "qa", "--limit-per-category", 1, "--max-tokens", 12, "--temperature", 1)
        speed_bench("run", *arguments, "--algorithm", "none", *flags, "--out", tmp_path / name)
        return {(turn.seed, turn.id): turn.output_ids for turn in read_records(tmp_path / name).turns}

    both = run("both", 1, 2)
    assert len(both) == 2
    assert len(set(both.values())) == 2
    assert run("again", 1, 2) == both
