"""Which conversation is asked when: closed and open loops, on the simulator."""

import time
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import pytest
from rows import rows
from simulated import simulated

from speed_bench.config import resolve
from speed_bench.errors import ConfigError
from speed_bench.records import RunRecords
from speed_bench.runner import descriptors
from speed_bench.runner.conversation import Script
from speed_bench.runner.journal import is_finished
from speed_bench.runner.load import AHEAD_OPEN
from speed_bench.runner.preparation import under_load
from speed_bench.runner.tickets import SharedTickets
from speed_bench.types import Conversation

ROWS = (*rows(6, "math"), *rows(3, "qa"))


def led(rows: tuple[Conversation, ...] = ROWS, **flags: object) -> tuple[list[str], tuple[float, ...] | None]:
    """The categories of the conversations in the order of the load, and when each begins."""
    config, _ = resolve({"limit_per_category": None, **flags})
    found, times_s = under_load(rows, config)
    return [row.category for row in found], times_s


def test_without_a_load_the_rows_are_led_as_they_stand() -> None:
    assert led() == (["math"] * 6 + ["qa"] * 3, None)


def test_under_load_categories_take_turns_so_that_the_mixture_is_the_same_all_the_time() -> None:
    assert led(num_prompts=5)[0] == ["math", "qa", "math", "qa", "math"]


def test_prompts_are_run_again_only_where_that_is_asked_for() -> None:
    with pytest.raises(ConfigError, match=r"--num-prompts 20 is more than the 9 prompts .* add --repeat-prompts"):
        led(num_prompts=20)
    again, _ = led(num_prompts=20, repeat_prompts=True)
    assert again[:9] == again[9:18]
    assert len(again) == 20


def test_a_point_has_four_prompts_per_stream_but_at_least_256_and_no_more_than_there_are() -> None:
    many = tuple(rows(2000, "qa"))
    bucket = {"config": "throughput_1k", "protocol": "throughput-v1"}
    for concurrency, expected in ((1, 256), (64, 256), (100, 400), (512, 2000)):
        config, _ = resolve({"config": bucket["config"], "concurrency": concurrency})
        assert len(under_load(many, config)[0]) == expected


def test_more_streams_than_prompts_is_said() -> None:
    with pytest.raises(ConfigError, match=r"--concurrency 12 is more than the 9 conversations .* would idle"):
        led(num_prompts=9, concurrency=12)


def test_an_open_loop_has_one_seed_and_at_least_one_arrival() -> None:
    with pytest.raises(ConfigError, match="give one seed, not 2"):
        led(arrivals="poisson", rate=1.0, concurrency=4, seeds=(0, 1))


def test_tickets_of_several_processes_are_drawn_once_each(tmp_path: Path) -> None:
    SharedTickets.make(tmp_path / "tickets")
    one, other = (SharedTickets(tmp_path / "tickets", 3) for _ in range(2))
    assert [one.draw(), other.draw(), one.draw(), other.draw(), one.draw()] == [0, 1, 2, None, None]
    one.close()
    other.close()


def test_a_closed_loop_asks_every_turn_once_and_begins_its_streams_over_the_ramp(tmp_path: Path) -> None:
    records = simulated(tmp_path, concurrency=4, ramp_up_s=0.2)
    assert is_finished(records)
    assert len({turn.key for turn in records.turns}) == len(records.turns) == records.num_planned
    assert all(turn.scheduled_at_s is None for turn in records.turns)
    begun = {slot: min(turn.sent_at_s for turn in records.turns if turn.slot == slot) for slot in range(4)}
    assert all(begun[slot] >= 0.05 * slot for slot in range(4))


def conversations(records: RunRecords) -> dict[str, list]:
    """The turns of each, in order."""
    found: dict[str, list] = {}
    for turn in sorted(records.turns, key=lambda turn: turn.id):
        found.setdefault(turn.question_id, []).append(turn)
    return found


def test_in_an_open_loop_a_conversation_is_due_by_the_clock_and_its_later_turns_after_the_answer(
    tmp_path: Path,
) -> None:
    records = simulated(tmp_path, arrivals="constant", rate=20.0, concurrency=8, think_time_s=0.05)
    assert is_finished(records)
    led = sorted(conversations(records).values(), key=lambda turns: turns[0].start_s)
    assert [turns[0].scheduled_at_s for turns in led] == pytest.approx([number / 20 for number in range(len(led))])
    later = [pair for turns in led for pair in pairwise(turns)]
    assert later
    for before, after in later:
        assert after.scheduled_at_s == pytest.approx(before.finished_at_s + 0.05, abs=1e-3)
        assert after.sent_at_s >= after.scheduled_at_s
    assert records.segments[0].load_ended_at_s == pytest.approx((len(led) - 1) / 20)


def test_a_conversation_that_finds_no_free_stream_waits_and_is_not_lost_to_the_time_limit(tmp_path: Path) -> None:
    records = simulated(
        tmp_path,
        arrivals="constant",
        rate=40.0,
        max_duration_s=0.1,
        concurrency=1,
        **{"engine.speed": 1.0},
        max_tokens=16,
    )
    waits_s = [turn.sent_at_s - turn.start_s for turn in records.turns]
    assert len(conversations(records)) == 4  # due at 0, 25, 50 and 75 ms
    assert max(waits_s) > 0.05
    assert is_finished(records)


def test_after_the_time_limit_of_a_closed_loop_nothing_begins_and_what_is_under_way_ends(tmp_path: Path) -> None:
    repeated = {"num_prompts": 40, "limit_per_category": None, "repeat_prompts": True}
    limited = {"max_duration_s": 1.5, "concurrency": 2, "engine.speed": 0.5, **repeated}
    records = simulated(tmp_path, **limited)
    assert all(turn.sent_at_s < 5.0 for turn in records.turns)  # all forty would take longer
    assert 1 <= len(records.turns) == records.num_planned < 40
    assert is_finished(records)
    assert records.segments[0].load_ended_at_s == 1.5
    assert simulated(tmp_path, resume=True, **limited).turns == records.turns  # there is nothing left to do


def test_a_prompt_that_is_run_again_is_a_turn_of_its_own(tmp_path: Path) -> None:
    records = simulated(
        tmp_path, num_prompts=6, limit_per_category=None, repeat_prompts=True, categories="qa", concurrency=2
    )
    assert {turn.repeat for turn in records.turns} == {0}
    records = simulated(
        tmp_path / "again", num_prompts=10, limit_per_category=None, repeat_prompts=True, categories="qa"
    )
    assert {turn.repeat for turn in records.turns} == {0, 1}


def test_workers_that_share_many_streams_need_open_files_for_their_own_ones_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (512, 512))
    descriptors.require(1024, 8)
    with pytest.raises(ConfigError, match=r"1024 streams need 576 open files in each of 2 workers"):
        descriptors.require(1024, 2)
    with pytest.raises(ConfigError, match=r"1024 streams need 1088 open files, and this system allows 512"):
        descriptors.require(1024)


def test_in_an_open_loop_a_prompt_that_is_not_ready_when_it_is_due_makes_the_client_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare, num = Script.prepare, count(1)  # of the prompts that were asked for

    def slow(*args: Any) -> Any:
        if next(num) > AHEAD_OPEN:  # those before are ready when the load begins
            time.sleep(0.3)
        return prepare(*args)

    load = {"arrivals": "constant", "rate": 1000.0, "num_prompts": AHEAD_OPEN + 3, "repeat_prompts": True}
    flags = {**load, "concurrency": AHEAD_OPEN + 3, "max_tokens": 2, "ignore_eos": True, "workers": 1}
    [in_time] = simulated(tmp_path / "ready", **flags).segments
    monkeypatch.setattr(Script, "prepare", slow)
    [late] = simulated(tmp_path / "slow", **flags).segments
    assert in_time.lateness.max_s < 0.5 < late.lateness.max_s
