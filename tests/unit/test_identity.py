"""Who is behind a url: asked of real HTTP servers, good ones and bad ones."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from reasoners import tokenizer_of

from speed_bench.engines import ENGINES as ALL_ENGINES
from speed_bench.engines import dialect, identity
from speed_bench.engines.http import Connection, Url
from speed_bench.engines.identity import Identity, detect, identify
from speed_bench.errors import ConfigError, EngineError, SpeedBenchError
from speed_bench.runner.segment import _compare_tokenizers

Pages = Mapping[str, Any]
"""Path -> what is answered: JSON with status 200, a status alone, or (status, bytes)."""
ENGINES = {
    "llama-cpp": ("llamacpp", "/props", {"default_generation_settings": {"n_ctx": 4096}, "build_info": "b1"}),
    "vllm": ("vllm", "/version", {"version": "0.32.0"}),
    "sglang": ("sglang", "/server_info", {"version": "0.5.23", "speculative_algorithm": None}),
    "tensorrt-llm": ("tensorrt_llm", "/version", {"version": "1.3.0"}),
}
"""How each engine signs its models, and where it says more of itself."""


def card(name: str = "m", owner: object = "vllm", **more: object) -> dict[str, Any]:
    return {"id": name, "object": "model", "owned_by": owner, **more}


def models(*cards: object) -> dict[str, Any]:
    return {"/v1/models": {"object": "list", "data": list(cards)}}


@pytest.fixture
def serve() -> Iterator[Callable[[Pages], str]]:
    """Start a server with these pages; its url."""
    running: list[ThreadingHTTPServer] = []

    def start(pages: Pages) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                page = pages.get(self.path, 404)
                if page == "silence":
                    time.sleep(0.5)
                    return
                if isinstance(page, int):
                    page = (page, b"")
                status, data = page if isinstance(page, tuple) else (200, json.dumps(page).encode())
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.do_GET()

            def log_message(self, *_: object) -> None: ...

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        running.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


def ask(url: str, *, engine: str = "vllm", wanted: str | None = None) -> Identity:
    async def main() -> Identity:
        connection = Connection(Url.parse(url))
        try:
            return await identify(dialect(engine), connection, wanted=wanted)
        finally:
            connection.close()

    return asyncio.run(main())


def said(raised: type[SpeedBenchError], do: Callable[[], object]) -> str:
    """The sentence of an error."""
    with pytest.raises(raised) as caught:
        do()
    assert "\n" not in str(caught.value)
    return str(caught.value)


class TestDetect:
    @pytest.mark.parametrize("name", ENGINES)
    def test_an_engine_is_known_by_who_owns_its_models(self, serve: Callable, name: str) -> None:
        assert detect(serve(models(card(owner=ENGINES[name][0])))) == name

    def test_a_path_before_its_own_and_the_suffix_of_clients_are_understood(self, serve: Callable) -> None:
        url = serve({"/gpu-1/v1/models": models(card())["/v1/models"]})
        assert detect(f"{url}/gpu-1") == detect(f"{url}/gpu-1/v1/") == "vllm"

    @pytest.mark.parametrize("owner", ["organization-owner", None])
    def test_another_owner_has_to_be_named(self, serve: Callable, owner: str | None) -> None:
        url = serve(models(card(owner=owner)))
        assert said(EngineError, lambda: detect(url)) == (
            f"the server at {url} does not say which engine it is (its models are owned by '{owner}'); "
            f"name it with --engine: {', '.join(ALL_ENGINES)}"
        )


@pytest.mark.parametrize("asking", [detect, ask], ids=["detect", "identify"])
class TestNoEngine:
    @pytest.mark.parametrize(
        ("page", "sentence"),
        [
            (401, "refuses us (HTTP 401); set the environment variable SPEED_BENCH_API_KEY to its key"),
            (403, "refuses us (HTTP 403); set the environment variable SPEED_BENCH_API_KEY to its key"),
            (404, "is no engine that is known here: GET /v1/models was answered with HTTP 404"),
            ((502, b"bad gateway"), "is no engine that is known here: GET /v1/models was answered with HTTP 502: bad"),
            ((200, b"<html>hello</html>"), "does not answer GET /v1/models as an engine does: "),
            ((200, b""), "does not answer GET /v1/models as an engine does: "),
            ({"data": []}, "does not answer GET /v1/models as an engine does: it lists no model"),
            ({"data": {}}, "does not answer GET /v1/models as an engine does: it lists no model"),
            ({"data": ["m"]}, "does not answer GET /v1/models as an engine does: it lists no model"),
            ({"models": [card()]}, "does not answer GET /v1/models as an engine does: "),
            ([card()], "does not answer GET /v1/models as an engine does: "),
            (None, "does not answer GET /v1/models as an engine does: "),
        ],
    )
    def test_what_does_not_answer_as_one_is_a_sentence(
        self, serve: Callable, asking: Callable[[str], object], page: object, sentence: str
    ) -> None:
        url = serve({"/v1/models": page})
        assert said(EngineError, lambda: asking(url)).startswith(f"the server at {url} {sentence}")

    def test_nothing_listens(self, asking: Callable[[str], object]) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{probe.getsockname()[1]}"
            assert said(EngineError, lambda: asking(url)).startswith(
                f"no engine answers at {url}: no connection to {url}: "
            )

    def test_silence_is_given_up(
        self, serve: Callable, asking: Callable[[str], object], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(identity, "TIMEOUT_S", 0.2)
        url = serve({"/v1/models": "silence"})
        assert said(EngineError, lambda: asking(url)) in (
            f"the server at {url} did not answer GET /v1/models within 0.2 s",
            f"no engine answers at {url}: nothing arrived for 0.2 s",
        )

    def test_something_else_listens(self, asking: Callable[[str], object]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:

            def greet() -> None:
                connection, _ = other.accept()
                with connection:
                    connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
                    connection.recv(1 << 16)

            threading.Thread(target=greet, daemon=True).start()
            url = f"http://127.0.0.1:{other.getsockname()[1]}"
            assert "the answer is not HTTP" in said(EngineError, lambda: asking(url))


class TestIdentify:
    @pytest.mark.parametrize("name", ENGINES)
    def test_what_it_serves_and_what_it_says_of_itself(self, serve: Callable, name: str) -> None:
        owner, path, page = ENGINES[name]
        served = card("a/b", owner, root="/weights/b", max_model_len=4096)
        found = ask(serve({**models(served), path: page}), engine=name)
        assert (found.served, found.owned_by, found.root) == ("a/b", owner, "/weights/b")
        assert found.context_length == (None if name == "tensorrt-llm" else 4096)
        assert found.settings.get("version") == page.get("version")
        assert "/" not in "".join(map(str, found.settings.values())), "no paths"

    @pytest.mark.parametrize("page", [404, (200, b"<html>"), [], None, {}])
    def test_one_that_says_no_more_is_an_engine_all_the_same(self, serve: Callable, page: object) -> None:
        found = ask(serve({**models(card()), "/version": page}))
        assert (found.served, found.root, found.context_length) == ("m", None, None)
        assert found.settings["version"] is None

    @pytest.mark.parametrize("odd", ["4096", 4096.5, [4096], {}])
    def test_what_is_of_another_kind_is_not_known(self, serve: Callable, odd: object) -> None:
        found = ask(serve(models(card(max_model_len=odd, root=None if odd == "4096" else odd))))
        assert (found.context_length, found.root) == (None, None)

    def test_what_cannot_be_recorded_is_left_out(self, serve: Callable) -> None:
        found = ask(serve({**models(card(max_model_len=[1])), "/version": {"version": {"major": 1}}}))
        assert found.settings == {}

    @pytest.mark.parametrize(
        ("engine", "page"),
        [
            ("llama-cpp", {"default_generation_settings": "none"}),
            ("sglang", {"speculative_algorithm": "EAGLE", "speculative_num_draft_tokens": "auto"}),
        ],
    )
    def test_a_page_that_is_not_this_engines_is_a_sentence(self, serve: Callable, engine: str, page: object) -> None:
        owner, path, _ = ENGINES[engine]
        url = serve({**models(card(owner=owner)), path: page})
        assert f"the server at {url} does not answer GET {path} as" in said(
            EngineError, lambda: ask(url, engine=engine)
        )

    def test_of_several_models_one_has_to_be_named(self, serve: Callable) -> None:
        url = serve(models(card("big"), card("adapter")))
        assert said(ConfigError, lambda: ask(url)) == (
            "the server serves several models, name one: --set engine.served_model=big (['big', 'adapter'])"
        )
        assert ask(url, wanted="adapter").served == "adapter"

    def test_a_model_that_is_not_served_is_named_with_the_nearest(self, serve: Callable) -> None:
        url = serve(models(card("llama-70b"), card("adapter")))
        assert said(ConfigError, lambda: ask(url, wanted="llama-7b")) == (
            "unknown engine.served_model 'llama-7b'; did you mean 'llama-70b'? the server serves: adapter, llama-70b"
        )

    @pytest.mark.parametrize(
        ("spelt", "ours"),
        [(None, "none"), ("NGRAM", "ngram"), ("EAGLE", "eagle/mtp"), ("EAGLE3", "eagle3"), ("NEW", None)],
    )
    def test_sglang_says_how_it_drafts(self, serve: Callable, spelt: str | None, ours: str | None) -> None:
        url = serve({**models(card(owner="sglang")), "/server_info": {"speculative_algorithm": spelt}})
        assert ask(url, engine="sglang").settings["algorithm"] == ours


@pytest.mark.parametrize("page", [{}, [], {"tokens": None}, {"tokens": ["x"]}, (200, b"<html>"), 500])
def test_ids_that_are_none_are_a_sentence(serve: Callable, page: object) -> None:
    url = serve({"/tokenize": page})

    async def compare() -> bool:
        connection = Connection(Url.parse(url))
        try:
            return await _compare_tokenizers(dialect("vllm"), connection, Identity("m", "sglang", None), tokenizer)
        finally:
            connection.close()

    tokenizer = tokenizer_of("{{ messages[0].content }}")
    sentence = said(EngineError, lambda: asyncio.run(compare()))
    assert sentence.startswith("the engine gives no ids of a text: POST /tokenize ")
    assert sentence.endswith("; its models are owned by 'sglang': is it another engine?")
