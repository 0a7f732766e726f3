"""The app of each Space, served from a folder that holds what the Space holds, and asked as its page asks it."""

import importlib.util
import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from compat.examples import FUNCTIONS, SMALL
from compat.surroundings import METRICS, NAMES, clean_environment

pytestmark = pytest.mark.skipif(importlib.util.find_spec("gradio") is None, reason="only one environment has gradio")


def ask(port: int, path: str, body: object = None) -> str:
    with closing(HTTPConnection("127.0.0.1", port, timeout=60)) as app:
        if body is None:
            app.request("GET", path)
        else:
            app.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        answer = app.getresponse()
        assert answer.status == 200, answer.read()
        return answer.read().decode()


def score(port: int, text: str) -> tuple[str, Any]:
    """What the button does with a text: `complete` and the outputs, or `error` and what is shown."""
    event = json.loads(ask(port, "/gradio_api/call/score", {"data": [text]}))["event_id"]
    *_, name, data = ask(port, f"/gradio_api/call/score/{event}").strip().splitlines()
    return name.removeprefix("event: "), json.loads(data.removeprefix("data: "))


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    """The port of each app by the name of its module. They start side by side: most of it is importing."""
    with ExitStack() as running:
        apps = {name: running.enter_context(serving(name, tmp_path_factory.mktemp("space"))) for name in NAMES}
        for port, server, log in apps.values():
            wait_for(port, server, log)
        yield {name: port for name, (port, _, _) in apps.items()}


@pytest.fixture(params=NAMES)
def space(request: pytest.FixtureRequest, ports: dict[str, int]) -> tuple[str, int]:
    """The name of a module and the port of its app."""
    return request.param, ports[request.param]


@contextmanager
def serving(name: str, folder: Path) -> Iterator[tuple[int, subprocess.Popen, Path]]:
    """Run the app of a Space as the Hub does: port, process and log."""
    shutil.copytree(METRICS / name, folder / "app", ignore=shutil.ignore_patterns("__pycache__"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = clean_environment(
        folder / "hf",
        HF_ENDPOINT="http://127.0.0.1:9",
        GRADIO_ANALYTICS_ENABLED="False",
        GRADIO_SERVER_PORT=str(port),
    )
    log = folder / "log"
    with log.open("w") as out:
        server = subprocess.Popen([sys.executable, "app.py"], cwd=folder / "app", env=env, stdout=out, stderr=out)
    try:
        yield port, server, log
    finally:
        server.terminate()
        server.wait(10)


def wait_for(port: int, server: subprocess.Popen, log: Path) -> None:
    for _ in range(900):
        assert server.poll() is None, log.read_text()
        try:
            ask(port, "/")
            return
        except ConnectionError:
            time.sleep(0.1)
    pytest.fail(log.read_text())


def test_the_app_computes_what_the_function_computes(space: tuple[str, int]):
    name, port = space
    event, (table, answer) = score(port, json.dumps(SMALL[name]))
    expected = FUNCTIONS[name](**SMALL[name])
    assert event == "complete"
    assert answer == json.loads(json.dumps(expected))
    rows = {row[0]: row[1:] for row in table["data"]}
    numbers = {key: value for key, value in expected.items() if value is None or isinstance(value, (int, float))}
    assert len(numbers) > 3
    assert {key: rows[key][0] for key in numbers} == numbers


def test_the_app_opens_with_the_example_of_the_card(space: tuple[str, int]):
    name, port = space
    (example,) = [
        part["props"]["value"] for part in json.loads(ask(port, "/config"))["components"] if part["type"] == "code"
    ]
    assert f"```json\n{example}\n```" in (METRICS / name / "README.md").read_text("utf-8")
    assert score(port, example)[0] == "complete"


def test_what_is_refused_is_shown_as_its_sentence(space: tuple[str, int]):
    name, port = space
    first = next(iter(SMALL[name]))
    wrong = {
        "{": "line 1, column 2 is no JSON",
        "[1]": "the input is a JSON object: the arguments of compute by name",
        json.dumps({**SMALL[name], first: None}): f"the input has no {first}",
        json.dumps({**SMALL[name], first: [["1"]]}): f"{first}[0][0] is '1', a str (request 0",
        json.dumps({**SMALL[name], "confidence_level": 95}): "confidence_level is 95",
        json.dumps(
            {**SMALL[name], "confidence": 0.9}
        ): "unknown argument 'confidence'; did you mean 'confidence_level'?",
    }
    if name == "speed_bench_throughput":
        wrong[json.dumps({**SMALL[name], first: [["1"]]})] = f"{first}[0][0] is a pair"
    for text, sentence in wrong.items():
        event, shown = score(port, text)
        assert event == "error", text
        assert sentence in shown["error"], text
    assert score(port, json.dumps(SMALL[name]))[0] == "complete"
