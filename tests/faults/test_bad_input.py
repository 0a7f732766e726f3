"""Bad input is one sentence and exit code 2; nothing is started, nothing is lost."""

import os
import socket
from pathlib import Path

import pytest
from command import speed_bench

from speed_bench.models import resolve_gguf


def refused(*arguments: object) -> str:
    """Run something that cannot work; what it says, which must be one line without a traceback."""
    done = speed_bench(*arguments, check=False)
    assert done.returncode == 2, (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    *_, last = done.stderr.strip().splitlines()
    return last.lower()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--engine", "lama-cpp"), "unknown engine 'lama-cpp'; did you mean 'llama-cpp'? engines: llama-cpp"),
        (("--algorithm", "ngrm"), "unknown algorithm 'ngrm'; did you mean 'ngram'? algorithms: dflash, draft, eagle, "),
        (("--algorithm", "eagle3"), "algorithm 'eagle3' needs a draft model: --draft file.gguf"),
        (
            ("--algorithm", "suffix"),
            "engine 'llama-cpp' has no algorithm 'suffix'; it has none, ngram, draft, eagle3, mtp, dflash",
        ),
        (("--categories", "maths"), "unknown category 'maths'; did you mean 'math'?"),
        (("--categories", " , "), "--categories names no category"),
        (("--edition", "opne"), "unknown edition 'opne'; did you mean 'open'?"),
        (("--config", "startr"), "unknown config 'startr'; did you mean 'starter'?"),
        (("--protocol", "quikc"), "unknown protocol 'quikc'; did you mean 'quick'?"),
        (("--protocol", "qualitative-v1"), "unknown config 'qualitative'"),
        (("--set", "engine.thread=2"), "unknown key 'engine.thread'; did you mean 'engine.threads'?"),
        (("--set", "engine.extra.n_nonsense=2"), "llama.cpp has no parameter 'n_nonsense'"),
        (("--limit-per-category", 0), "limit_per_category: input should be greater than or equal to 1"),
        (("--max-token", 3), "no such option '--max-token'"),
        (("--algorithm", "draft"), "algorithm 'draft' needs a draft model"),
        (("--model", "absent.gguf"), "absent.gguf"),
        (("--draft", "absent.gguf", "--algorithm", "draft"), "absent.gguf"),
        (("--set", "engine.context_length=16384"), "the model holds 8192 tokens per stream"),
        (("--seed", 1, "--seed", 1), "a seed is given twice"),
        (("--set", "engine.context_length=100"), "prompt tokens, but the context holds 100"),
        (("--history", "replay:nowhere"), "nowhere is not a run folder"),
        (("--resume",), "--resume needs --out dir"),
        (("--tokenizer", "./nowhere"), "nowhere"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, arguments: tuple, sentence: str) -> None:
    out = () if "--resume" in arguments else ("--out", tmp_path / "run")
    assert sentence in refused("run", *arguments, *out)


def test_nothing_is_written_before_the_input_is_known_to_be_good(tmp_path: Path) -> None:
    refused("run", "--categories", "maths", "--out", tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_a_run_whose_engine_never_started_is_simply_started_again(tmp_path: Path) -> None:
    few = ("--categories", "qa", "--limit-per-category", 1, "--max-tokens", 2, "--algorithm", "none")
    assert "no parameter" in refused("run", *few, "--set", "engine.extra.n_nonsense=2", "--out", tmp_path / "run")
    speed_bench("run", *few, "--out", tmp_path / "run")


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = refused("run", "--set", f"engine.port={port}", "--out", tmp_path / "run")
    assert f"port {port} cannot be used: address already in use" in said
    assert "--set engine.port=port" in said
    assert not (tmp_path / "run").exists()


def test_a_model_that_is_cut_or_another_format_is_named(tmp_path: Path) -> None:
    whole = resolve_gguf("smollm2-135m-instruct")
    cut = tmp_path / "cut.gguf"
    with whole.open("rb") as source:
        cut.write_bytes(source.read(5_000_000))
    other = tmp_path / "other.gguf"
    other.write_text("not a model")
    assert "cut.gguf" in refused("run", "--model", cut, "--out", tmp_path / "run")
    assert "not a gguf" in refused("run", "--model", other, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_that_is_not_a_run_is_named(tmp_path: Path) -> None:
    assert "is not a run folder" in refused("score", tmp_path)
    (tmp_path / "letter.txt").touch()
    assert "holds other files" in refused("run", "--out", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]
    assert "holds no run to finish; leave out --resume" in refused("run", "--out", tmp_path / "new", "--resume")
    assert not (tmp_path / "new").exists()
    (tmp_path / "loads").mkdir()
    (tmp_path / "loads" / "sweep.json").touch()
    assert "holds several runs; go on with: speed-bench sweep" in refused(
        "run", "--out", tmp_path / "loads", "--resume"
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_rights_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert "cannot be made" in refused("run", "--out", tmp_path / "run")
