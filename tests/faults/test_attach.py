"""Engines that somebody else started, and engines that do not start: a result, or one sentence and exit code 2.

The server is the simulator, which speaks every engine's wire format; the command is the real one.
"""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import pytest
from command import speed_bench

from speed_bench.engines.server import free_port
from speed_bench.models import resolve_gguf
from speed_bench.runner.journal import read_records, read_run_file

pytestmark = pytest.mark.long  # a command for every test, more than a minute together

MODEL = resolve_gguf("smollm2-135m-instruct")
SPOKEN = ("llama-cpp", "vllm", "sglang", "tensorrt-llm")
TELLS = ("sglang",)
"""Engines that say how they draft, so that a contradiction is told before anything is measured."""
FEW = ("--categories", "qa", "--limit-per-category", 2, "--max-tokens", 12, "--no-baseline")


class Simulator:
    """A simulator's process."""

    def __init__(self, speaks: str, *, algorithm: str = "ngram", port: int = 0, **engine: object) -> None:
        told = {
            "engine": {"speaks": speaks, "speed": 50, "acceptance": [0.8], **engine},
            "algorithm": algorithm,
            "draft_length": None if algorithm == "none" else 3,
            "port": port,
            "model": str(MODEL),
        }
        command = (sys.executable, "-m", "speed_bench.engines.simulator.server", orjson.dumps(told).decode())
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self.url = self.process.stdout.readline().decode().split()[-1]

    def stop(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="module")
def simulators() -> Iterator[dict[str, Simulator]]:
    """One that drafts by lookup for every engine that can be played."""
    started = {speaks: Simulator(speaks) for speaks in SPOKEN}
    yield started
    for each in started.values():
        each.stop()


@pytest.fixture
def simulate() -> Iterator[Callable[..., Simulator]]:
    """Start one of a test's own."""
    started: list[Simulator] = []

    def start(speaks: str, **settings: object) -> Simulator:
        started.append(Simulator(speaks, **settings))
        return started[-1]

    yield start
    for each in started:
        each.stop()


def refused(*arguments: object, lines: int = 1) -> str:
    """Run something that cannot work; what it says, which is so many lines on standard error and no traceback."""
    done = speed_bench(*arguments, check=False, timeout=60)
    assert done.returncode == 2, (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    said = done.stderr.strip().splitlines()
    assert said[0].startswith("error: ")
    assert len(said) == lines, said
    return "\n".join(said)


def attach(url: str, out: Path, *more: object) -> tuple[object, ...]:
    return ("run", "--url", url, "--model", MODEL, *FEW, "--out", out, *more)


class TestAttached:
    @pytest.mark.parametrize("speaks", SPOKEN)
    def test_an_engine_is_detected_and_measured_as_it_runs(
        self, simulators: dict[str, Simulator], tmp_path: Path, speaks: str
    ) -> None:
        url = simulators[speaks].url
        done = speed_bench(*attach(url, tmp_path / "run", "--algorithm", "ngram", "--draft-length", 3))
        assert done.stderr == ""
        run, records = read_run_file(tmp_path / "run"), read_records(tmp_path / "run")
        assert (run.config.engine.name, run.config.engine.url, run.config.baseline) == (speaks, url, False)
        assert (len(records.turns), records.failures) == (2, ())
        assert all(turn.counts.num_steps < turn.num_output_tokens - 1 for turn in records.turns)
        assert records.segments[0].engine["tokenizer_compared"] == (speaks != "tensorrt-llm")
        scores = orjson.loads((tmp_path / "run" / "scores.json").read_bytes())
        assert scores["acceptance"]["overall"]["acceptance_length"]["value"] > 1
        assert scores["reconciliation"]["equal"] in (True, None)
        assert simulators[speaks].process.poll() is None, "somebody else's server is not ours to stop"
        assert not list((tmp_path / "run").glob("engine*")), "neither a log nor a process id of it is ours"

    @pytest.mark.parametrize(
        ("engine", "sentence"),
        [
            ("sglang", "engine 'sglang' failed its warm-up: POST /generate was answered with HTTP 404"),
            ("llama-cpp", "the engine gives no ids of a text: POST /tokenize was answered with HTTP 400"),
        ],
    )
    def test_another_engine_than_the_one_named_is_suspected(
        self, simulators: dict[str, Simulator], tmp_path: Path, engine: str, sentence: str
    ) -> None:
        arguments = attach(simulators["vllm"].url, tmp_path / "run", "--engine", engine, "--algorithm", "ngram")
        said = refused(*arguments)
        assert said.startswith(f"error: {sentence}")
        assert "its models are owned by 'vllm': is it another engine?" in said

    def test_nobody_there(self, tmp_path: Path) -> None:
        url = f"http://127.0.0.1:{free_port()}"
        assert f"no engine answers at {url}: no connection to {url}" in refused(
            *attach(url, tmp_path / "run", "--algorithm", "none")
        )
        assert not (tmp_path / "run").exists()

    def test_no_baseline_there(self, simulators: dict[str, Simulator], tmp_path: Path) -> None:
        url = f"http://127.0.0.1:{free_port()}"
        arguments = attach(simulators["vllm"].url, tmp_path / "run", "--algorithm", "ngram", "--draft-length", 3)
        said = refused(*(each for each in arguments if each != "--no-baseline"), "--set", f"engine.baseline_url={url}")
        assert f"no engine answers at {url}" in said
        assert not (tmp_path / "run").exists()

    def test_how_it_drafts_must_be_said(self, simulators: dict[str, Simulator], tmp_path: Path) -> None:
        url = simulators["vllm"].url
        assert refused(*attach(url, tmp_path / "run")).startswith(f"error: say what the server at {url} drafts with")
        assert not (tmp_path / "run").exists()

    def test_how_it_drafts_must_be_true_where_it_tells(self, simulators: dict[str, Simulator], tmp_path: Path) -> None:
        said = refused(*attach(simulators["sglang"].url, tmp_path / "run", "--algorithm", "none"))
        assert "the server says that its algorithm is ngram, not none; say --algorithm ngram" in said

    def test_another_model_than_is_served_is_named(self, simulators: dict[str, Simulator], tmp_path: Path) -> None:
        more = ("--algorithm", "ngram", "--set", "engine.served_model=simulate")
        assert (
            "unknown engine.served_model 'simulate'; did you mean 'simulated'? the server serves: simulated"
            in refused(*attach(simulators["vllm"].url, tmp_path / "run", *more))
        )
        assert not (tmp_path / "run").exists()

    def test_another_model_than_was_loaded_is_not_recorded(
        self, simulators: dict[str, Simulator], tmp_path: Path
    ) -> None:
        other = ("--model", "org/other", "--algorithm", "ngram")
        said = refused(*attach(simulators["vllm"].url, tmp_path / "run", *other))
        assert "the server says that it loaded 'simulated' and serves it as 'simulated', not 'org/other'" in said
        assert not (tmp_path / "run").exists()

    def test_without_a_model_there_is_no_tokenizer(self, simulators: dict[str, Simulator], tmp_path: Path) -> None:
        said = refused("run", "--url", simulators["llama-cpp"].url, "--algorithm", "ngram", "--out", tmp_path / "run")
        assert "does not say where the tokenizer of 'simulated' is; give --tokenizer NAME, or --model FILE.gguf" in said

    def test_a_password_is_neither_used_nor_shown(self, simulators: dict[str, Simulator], tmp_path: Path) -> None:
        url = simulators["vllm"].url.replace("//", "//me:hunter2@")
        done = speed_bench(*attach(url, tmp_path / "run"), check=False)
        assert done.returncode == 2
        assert "may not hold a password or a query" in done.stderr
        assert "put the key into the environment variable SPEED_BENCH_API_KEY" in done.stderr
        assert "hunter2" not in done.stdout + done.stderr
        assert not (tmp_path / "run").exists()

    def test_a_context_shorter_than_a_prompt_is_told_before_anything_is_asked(
        self, simulate: Callable[..., Simulator], tmp_path: Path
    ) -> None:
        short = simulate("vllm", context_length=64)
        said = refused(*attach(short.url, tmp_path / "run", "--algorithm", "ngram", "--categories", "reasoning"))
        assert "prompt tokens, but the context holds 64; start the server with more, or leave" in said
        assert not (tmp_path / "run").exists()

    def test_a_server_that_dies_costs_the_turns_in_flight_and_resume_finishes(
        self, simulate: Callable[..., Simulator], tmp_path: Path
    ) -> None:
        run, port = tmp_path / "run", free_port()
        dying = simulate("vllm", port=port, faults=[{"kind": "crash", "request": 2}])
        said = refused(*attach(dying.url, run, "--algorithm", "ngram", "--draft-length", 3), lines=2)
        sentence, note = said.splitlines()
        assert sentence == f"error: the server at {dying.url} does not answer any more"
        assert note == f"kept 1 of 2 turns in {run}; finish with: speed-bench run --out {run} --resume"
        [kept] = read_records(run).turns

        simulate("vllm", port=port)
        speed_bench("run", "--out", run, "--resume")
        records = read_records(run)
        assert (len(records.turns), records.failures, kept in records.turns) == (2, (), True)
        assert [segment.whole for segment in records.segments] == [False, True]
        assert (run / "scores.json").exists()


class TestNoSpeculation:
    @pytest.mark.parametrize(
        ("speaks", "server"),
        [("llama-cpp", {"algorithm": "none"}), ("vllm", {"no_proposal": 1.0})],
    )
    def test_speculation_that_drafts_nothing_is_no_result(
        self, simulate: Callable[..., Simulator], tmp_path: Path, speaks: str, server: dict
    ) -> None:
        url = simulate(speaks, **server).url
        said = refused(*attach(url, tmp_path / "run", "--algorithm", "ngram", "--draft-length", 3))
        assert "speculation was asked for (algorithm 'ngram'), but not one token was drafted in 2 turns" in said
        assert (tmp_path / "run" / "scores.json").exists(), "what was measured is kept all the same"


class TestSpeculation:
    @pytest.mark.parametrize("speaks", SPOKEN)
    def test_where_none_was_asked_for_it_is_no_result(
        self, simulators: dict[str, Simulator], tmp_path: Path, speaks: str
    ) -> None:
        said = refused(*attach(simulators[speaks].url, tmp_path / "run", "--algorithm", "none"))
        before = "the server says that its algorithm is ngram, not none; say --algorithm ngram"
        after = r"no speculation was asked for \(algorithm 'none'\), but the engine drafted \(\d+ tokens\)"
        assert re.fullmatch(f"error: {before if speaks in TELLS else after}", said)

    @pytest.mark.parametrize("speaks", SPOKEN)
    def test_a_baseline_that_speculates_is_none(
        self, simulators: dict[str, Simulator], simulate: Callable[..., Simulator], tmp_path: Path, speaks: str
    ) -> None:
        url = simulators[speaks].url
        arguments = [each for each in attach(url, tmp_path / "run") if each != "--no-baseline"]
        drafts = ("--algorithm", "ngram", "--draft-length", 3)
        other = simulate(speaks).url
        said = refused(*arguments, *drafts, "--set", f"engine.baseline_url={other}")
        if speaks in TELLS:
            assert said == "error: the server at engine.baseline_url says that it speculates (ngram): it is no baseline"
            return
        assert re.match(r"error: the baseline drafted \(\d+ tokens\), so it is none: its server speculates", said)
        scores = orjson.loads((tmp_path / "run" / "scores.json").read_bytes())
        assert scores["baseline"] is None
        assert scores["acceptance"]["overall"]["acceptance_length"]["value"] > 1


class TestStarted:
    def test_an_environment_without_the_engine_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text("{}")
        arguments = ("--engine", "vllm", "--python", sys.executable, "--model", tmp_path, "--algorithm", "none")
        said = refused("run", *arguments, "--out", tmp_path / "run")
        assert f"engine 'vllm' is not installed in the environment of {sys.executable}; pip install" in said
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize(
        ("python", "reason"),
        [("/no/such/python", "No such file or directory"), ("false", "asked for its packages, it fails")],
    )
    def test_what_is_no_interpreter_is_named(self, tmp_path: Path, python: str, reason: str) -> None:
        said = refused("run", "--engine", "vllm", "--python", python, "--model", "org/m", "--algorithm", "none")
        assert said == f"error: engine.python: '{python}' is no Python interpreter that runs: {reason}"

    @pytest.mark.parametrize(
        ("more", "last_line"),
        [
            (
                ("--set", "engine.category_acceptance={nonsense: [0.5]}"),
                "error: engine.category_acceptance has nonsense, which are no categories of open/starter",
            ),
            (
                ("--launch", "no-such-launcher {command}"),
                "no-such-launcher cannot be started: No such file or directory",
            ),
            (("--launch", "sh -c 'exit 3; {command}'"), None),
        ],
    )
    def test_one_that_dies_at_its_start_shows_the_end_of_its_log(
        self, tmp_path: Path, more: tuple, last_line: str | None
    ) -> None:
        run = tmp_path / "run"
        said = refused("run", "--engine", "simulator", *FEW, *more, "--out", run, lines=2 if last_line else 1)
        if last_line is None:
            assert said == "error: engine 'simulator' ended with exit code 3"
        else:
            assert f"; its log is {run / 'engine-0.log'}, and ends:\n  {last_line}" in said

    def test_a_template_of_another_place_starts_it_there(self, tmp_path: Path) -> None:
        run = tmp_path / "run"
        launch = f"env PATH={Path(sys.executable).parent} {{command}}"
        speed_bench("run", "--engine", "simulator", *FEW, "--set", "engine.speed=50", "--launch", launch, "--out", run)
        assert len(read_records(run).turns) == 2
        assert not (run / "engine.pid").exists()
