"""The real package of SGLang, without its model; run by `make test-sglang`.

`drive_tokenizer_manager.py` feeds its own counting and response path with made-up verify results, and its own parser
with the command lines that we start it with.
"""

import subprocess
from pathlib import Path

import orjson
import pytest

from speed_bench.algorithms import ALGORITHMS
from speed_bench.config import RunConfig, resolve
from speed_bench.engines import dialect, sglang
from speed_bench.engines.answers import Drafting
from speed_bench.engines.http import Exchange
from speed_bench.errors import RequestFailed
from speed_bench.runner.slices import at_once
from speed_bench.runner.turn import Asked, read_turn
from speed_bench.tally import tally_record, tally_steps
from speed_bench.types import Request, Sampling, Step, TurnRecord

pytestmark = [pytest.mark.sglang, pytest.mark.timeout(600)]

HERE = Path(__file__).parent
ROOT = HERE.parent.parent.parent
PYTHON = ROOT / ".venv-sglang" / "bin" / "python"
MODEL = ROOT / "build" / "models" / "tiny-llama"
EVERY_SETTING = {
    "engine.tensor_parallel": 2,
    "engine.data_parallel": 2,
    "engine.memory_fraction": 0.5,
    "engine.context_length": 4096,
    "engine.dtype": "float32",
    "engine.prefix_cache": True,
    "engine.extra.page_size": 1,
}
DRAFTING = Drafting(3, always=True)


def config_of(algorithm: str, **settings: object) -> RunConfig:
    draft = "{model}" if ALGORITHMS[algorithm].draft == "required" else None
    flags = {"engine": "sglang", "model": "{model}", "algorithm": algorithm, "draft": draft, **settings}
    if algorithm == "dflash":
        flags["draft_length"] = 15  # its proposals are blocks, of 16 tokens with the one before
    config, _ = resolve(flags)
    return config


def words_of(config: RunConfig) -> list[str]:
    """What follows the name of the module, but for the model, which the driver names."""
    launch = sglang.launch(config, model=str(config.model), draft=config.draft, port=8000, folder=HERE)
    return list(launch.argv[launch.argv.index("sglang.launch_server") + 1 :])


@pytest.fixture(scope="module")
def driven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The driver's folder: one process, since its imports take long."""
    folder = tmp_path_factory.mktemp("driven")
    entries = [{"name": name, "argv": [*words_of(config_of(name)), "--device", "cuda"]} for name in sglang.ALGORITHMS]
    every = [*words_of(config_of("none", **EVERY_SETTING)), "--device", "cuda"]
    (folder / "arguments.json").write_bytes(orjson.dumps([*entries, {"name": "every setting", "argv": every}]))
    script = HERE / "drive_tokenizer_manager.py"
    done = subprocess.run(
        [PYTHON, "-W", "ignore", script, MODEL, folder, folder / "arguments.json"], capture_output=True, timeout=500
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    return folder


@pytest.fixture(scope="module")
def facts(driven: Path) -> dict:
    return orjson.loads((driven / "facts.json").read_bytes())


def test_every_command_line_is_accepted_by_its_own_parser_and_checks(facts: dict) -> None:
    refused = {entry["name"]: entry for entry in facts["arguments"] if not entry["accepted"]}
    assert refused == {}


def test_every_setting_is_a_field_of_its_arguments(facts: dict) -> None:
    for entry in facts["arguments"]:
        names = {word[2:].replace("-", "_") for word in entry["argv"] if word.startswith("--")}
        assert names - set(facts["server_args"]) == set()


def test_revisions_and_experts_are_fields_of_its_arguments(facts: dict) -> None:
    """Names alone: its checks would ask the Hub for the revision, and the model for its experts."""
    config = config_of("draft", model="org/m@abc", draft="org/d@def", **{"engine.expert_parallel": 2})
    names = {word[2:].replace("-", "_") for word in words_of(config) if word.startswith("--")}
    assert {"revision", "speculative_draft_model_revision", "ep_size"} <= names <= set(facts["server_args"])


def test_speculation_resolves_to_a_chain_of_the_length_asked_for(facts: dict) -> None:
    resolved = {entry["name"]: entry["resolved"] for entry in facts["arguments"]}
    assert resolved["none"]["speculative_algorithm"] is None
    for name in set(sglang.ALGORITHMS) - {"none"}:
        config, said = config_of(name), resolved[name]
        assert said["speculative_algorithm"] in facts["speculative_algorithms"]
        assert said["speculative_num_draft_tokens"] == config.draft_length + 1
        assert said["speculative_eagle_topk"] in (1, None)
        assert sglang.describe({**said, "version": "x"}, {})["draft_length"] == config.draft_length
        assert name in sglang.describe({**said, "version": "x"}, {})["algorithm"].split("/")


def test_every_key_of_a_request_is_one_that_it_reads(facts: dict) -> None:
    path, body = sglang.payload(Request("0" * 32 + "/0", (1, 2), Sampling(0.0, 8, 0)), "m")
    assert path == "/generate"
    assert set(body) - {"sampling_params"} <= set(facts["generate_request"])
    assert set(body["sampling_params"]) <= set(facts["sampling_params"])


def turn_of(driven: Path, name: str) -> TurnRecord:
    truth = orjson.loads((driven / f"{name}.truth.json").read_bytes())
    sampling = Sampling(0.0, truth["max_new_tokens"], 0)
    work = read_turn(
        dialect("sglang"),
        Request("0" * 32 + "/0", tuple(truth["prompt_ids"]), sampling),
        Asked("qa", "00" * 32, 0, 0, DRAFTING),
        Exchange(1, 200, [(2, (driven / f"{name}.sse").read_bytes())], 3),
        name_unnamed=lambda ids, _: ids,
        engine_counts=None,
    )
    return at_once(work)


def test_its_chunks_are_read_exactly_in_both_modes_and_by_slow_readers(driven: Path) -> None:
    names = sorted(path.name.removesuffix(".truth.json") for path in driven.glob("*.truth.json"))
    ended_well = [name for name in names if "abort" not in name and "drop" not in name]
    assert {"spec-cumulative", "spec-delta", "spec-slow", "spec-slow-delta", "spec-cut", "spec-eos"} <= set(ended_well)
    for name in ended_well:
        truth = orjson.loads((driven / f"{name}.truth.json").read_bytes())
        steps = [Step(step["drafted"], step["accepted"], step["emitted"]) for step in truth["steps"]]
        turn, expected = turn_of(driven, name), tally_steps(steps)
        assert list(turn.output_ids) == truth["output_ids"], name
        assert turn.finish_reason == truth["finish_reason"]["type"], name
        if not steps:
            continue
        counts, tally = turn.counts, tally_record(turn)
        assert (counts.verify_steps, counts.drafted, counts.accepted) == tuple(
            truth["totals"][key] for key in ("verify_steps", "drafted", "accepted")
        ), name
        assert counts.num_steps == len(steps), name
        assert (tally.trials, tally.successes) == (expected.trials, expected.successes), name
        if "slow" in name:
            assert not counts.aligned, name
        else:
            assert list(counts.per_step) == steps, name


@pytest.mark.parametrize("name", ["spec-abort", "spec-drop-delta"])
def test_a_request_that_it_gives_up_is_a_failed_turn(driven: Path, name: str) -> None:
    with pytest.raises(RequestFailed, match="gave the request up"):
        turn_of(driven, name)


def test_its_counter_counts_the_verify_steps_of_every_request(driven: Path) -> None:
    for name in ("spec-cumulative", "spec-delta", "spec-cut"):
        before, after = (sglang.counters((driven / f"{name}.{when}.txt").read_text()) for when in ("before", "after"))
        spent = (after.verify_steps or 0) - (before.verify_steps or 0)
        assert spent == orjson.loads((driven / f"{name}.truth.json").read_bytes())["totals"]["verify_steps"], name
