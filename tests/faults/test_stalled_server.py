"""A server that does nothing for a while: those who were to be served meanwhile have waited, and the report says so.

In an open loop latency counts from when a conversation was due. A client that counts from when it sends, or that sends
only when an answer has come, leaves the waiting out of its numbers: the server's pause is seen by one request alone
(coordinated omission).
"""

from pathlib import Path

import numpy as np
import pytest
from small_editions import write_edition
from timed_run import TimedRun, timed_run

pytestmark = pytest.mark.long

STALL_S, RATE, NUM_ROWS, STALLED = 1.2, 20.0, 70, 15
WAITED_S = 1.0
"""What those who were due soon after the stall began have waited at least."""
SERVER = {
    "algorithm": "none",
    "max_tokens": 4,
    "ignore_eos": True,
    "engine.step_ms": 4,
    "engine.step_ms_per_token": 0,
    "engine.step_ms_per_1k_context": 0,
    "engine.prefill_ms_per_1k": 10,
    "engine.max_batch": 1,
}
"""It serves one request at a time, in 13 ms, and one that stalls holds up all others."""


def measured(folder: Path, streams: int, **load: object) -> TimedRun:
    edition = write_edition(folder / "edition", ("throughput_1k",), num_rows=NUM_ROWS)
    fault = {"kind": "stall", "request": streams + STALLED, "seconds": STALL_S}  # each stream has warmed up with one
    rows = {"edition": str(edition), "config": "throughput_1k", "prompts_per_stream": None, "concurrency": streams}
    return timed_run(folder / "run", **rows, **SERVER, **load, **{"engine.faults": [fault]})


@pytest.mark.parametrize("streams", [1, 4, 48])
def test_what_was_due_while_the_server_stalled_has_waited(tmp_path: Path, streams: int) -> None:
    run = measured(tmp_path, streams, arrivals="constant", rate=RATE)
    assert run.records.failures == ()
    assert run.scores.serving.ttft_s.p99 > WAITED_S
    ttft_s = np.array([turn.arrivals[0][0] - turn.start_s for turn in run.records.turns])
    due_meanwhile = STALL_S * RATE
    assert (ttft_s > STALL_S / 2).sum() >= due_meanwhile / 2
    assert run.scores.serving.e2e_s.p99 > WAITED_S

    from_sending_s = np.array([turn.arrivals[0][0] - turn.sent_at_s for turn in run.records.turns])
    num_hidden = int((from_sending_s > STALL_S / 4).sum())
    if streams == 1:  # all of the waiting is at the client
        assert num_hidden == 0
        assert run.scores.serving.client_wait_s.p99 > WAITED_S
    else:
        assert num_hidden >= streams / 2  # those that the streams have sent wait in the engine
    truth = [told.sent_s[0] - turn.start_s - run.offset_s for turn, told in run.pairs]
    assert run.scores.serving.ttft_s.p99 == pytest.approx(np.percentile(truth, 99), abs=0.05)


def test_a_closed_loop_of_one_stream_sees_the_stall_once(tmp_path: Path) -> None:
    run = measured(tmp_path, 1)
    assert run.scores.serving.ttft_s.p99 < STALL_S / 4
    slow = [turn for turn in run.records.turns if turn.finished_at_s - turn.sent_at_s > STALL_S]
    assert len(slow) == 1
    assert run.scores.serving.step_gap_s.p99 < STALL_S / 4
