"""The simulated engine without its sockets: requests and paths in, replies and streams out."""

from collections.abc import Callable, Mapping
from functools import partial
from time import time
from typing import Any, Protocol

import orjson

from speed_bench.engine_config import Fault
from speed_bench.engines.simulator import REQUEST_KEY
from speed_bench.engines.simulator.batch import Batch
from speed_bench.engines.simulator.faults import DONE, Delivery, Piece, Stream, start_delay_s, suffered
from speed_bench.engines.simulator.generation import Generation, Told
from speed_bench.engines.simulator.lexicon import Lexicon
from speed_bench.engines.simulator.settings import ServerSettings
from speed_bench.engines.simulator.times import Timed
from speed_bench.engines.simulator.truth import Answer, Asked
from speed_bench.engines.simulator.wires import Body, Counters, Prompt, Reply, Server, Turn, Wire
from speed_bench.tokens import prompt_sha256
from speed_bench.types import Step

TRUTH, LOAD, TIMES = "/simulator/truth", "/simulator/load", "/simulator/times"
PHANTOM = Step(1, 0, 1)
"""What `wrong-counters` counts besides what happened."""


class AnswerStream(Stream, Protocol):
    """Where an answer is streamed to."""

    def begin(self) -> None:
        """Write the status and the headers of a stream."""


class Simulation:
    """Answers requests from the truth, in one batch, as one engine would."""

    def __init__(
        self,
        settings: ServerSettings,
        wire: Wire,
        lexicon: Lexicon,
        categories: dict[str, str],
        clock: Callable[[], float],
    ) -> None:
        engine = settings.engine
        self.wire = wire
        self.batch = Batch(engine, settings.places, clock)
        self.told: list[Told] = []
        self._settings = settings
        self._categories = categories
        self._clock = clock
        self._ready_at = clock() + start_delay_s(engine.faults)
        self._num_requests = 0
        self._server = Server(
            lexicon=lexicon,
            context_length=engine.context_length,
            algorithm=settings.algorithm,
            draft_length=settings.speculation.draft_length,
            concurrency=settings.places,
            request_stats=engine.request_stats,
            counters=Counters(),
            started_at=int(time()),
        )

    def get(self, path: str) -> Reply:
        """A page."""
        if path == TRUTH:
            return Reply(200, orjson.dumps(self._truth()))
        if path == LOAD:
            return Reply(200, orjson.dumps(self.batch.load))
        if path == TIMES:
            return Reply(200, orjson.dumps(self.batch.times.as_json()))
        return self._refused() or self.wire.get(path, self._server) or self._error(404, f"there is no {path}")

    def post(self, path: str, body: bytes, stream: AnswerStream, arrived_s: float | None = None) -> Reply | Generation:
        """An answer, whose events go to `stream`, or a reply. It arrived just now unless told otherwise."""
        if refused := self._refused():
            return refused
        try:
            data = orjson.loads(body)
            if not isinstance(data, dict):
                raise TypeError("the body is no JSON object")
            if path != self.wire.COMPLETION:
                return self.wire.post(path, data, self._server) or self._error(404, f"there is no {path}")
            prompt = self.wire.prompt(data)
            if not isinstance(data.get("stream_options") or {}, dict):
                raise TypeError("stream_options is no JSON object")
            if not data.get("stream"):
                raise ValueError("the simulator only streams: set stream")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return self._error(400, f"the request cannot be read: {error!r}")
        return self._complete(data, prompt, stream, self._clock() if arrived_s is None else arrived_s)

    def _complete(self, body: Body, prompt: Prompt, stream: AnswerStream, arrived_s: float) -> Reply | Generation:
        number, self._num_requests = self._num_requests, self._num_requests + 1
        faults = suffered(self._settings.engine.faults, number)
        name = body.get(REQUEST_KEY)
        asked = Asked(
            prompt_sha256=prompt_sha256(prompt.ids),
            prompt_len=len(prompt.ids),
            max_tokens=prompt.max_tokens,
            temperature=prompt.temperature,
            seed=prompt.seed,
            ignore_eos=prompt.ignore_eos,
            category=self._categories.get(str(name).rpartition("/")[0]),
        )
        refusal = self.wire.refusal(prompt, self._server.context_length)
        if "http-5xx" in faults or refusal:
            self.told.append(Told(number, name, asked, (), 0, None, aborted=False, faults=tuple(sorted(faults))))
            return self._refuse(refusal) if refusal else self._error(500, "made to fail")
        turn = partial(Turn, number, int(time()), self.batch.load.model_ms, body, prompt)
        generation = Generation(
            asked=asked,
            timed=Timed(number, name, arrived_s),
            begin=partial(self._begin, asked, turn, stream, faults),
            faults=faults,
            clock=self._clock,
            sent=partial(self._count, len(prompt.ids), wrong="wrong-counters" in faults),
            over=self._over,
        )
        stream.begin()
        self.batch.add(generation)
        return generation

    def _begin(
        self, asked: Asked, turn: Callable[[Answer], Turn], stream: AnswerStream, faults: Mapping[str, Fault]
    ) -> tuple[Answer, Delivery]:
        """The answer to a request, and what writes it."""
        whole = self._settings.answer(asked, self._server.lexicon.vocabulary, self.wire.HABITS)
        return whole, Delivery(stream, self.wire.writer(turn(whole), self._server), faults, len(whole.steps))

    def _over(self, told: Told, timed: Timed) -> None:
        self.told.append(told)
        self.batch.times.ended(timed)
        self.batch.wake()

    def _count(self, prompt_len: int, piece: Piece, answer: Answer, *, wrong: bool) -> None:
        """Add a piece to the engine's counters, when the engine would."""
        counters, last = self._server.counters, piece.finish_reason is not None
        steps = piece.steps
        if self.wire.COUNTS_AT_END:
            steps = answer.steps if last else ()
        for step in steps:
            counters.add(step)
        if last:
            counters.end(prompt_len, len(answer.token_ids), answer.finish_reason)
        if last and wrong:
            counters.add(PHANTOM)

    def _refused(self) -> Reply | None:
        """While it is starting."""
        return self._error(503, "Loading model") if self._clock() < self._ready_at else None

    def _refuse(self, reason: str) -> Reply:
        """A request that cannot be served."""
        if not self.wire.REFUSES_IN_STREAM:
            return self._error(400, reason)
        body = self.wire.error(400, reason)
        return Reply(200, b"data: " + body + b"\n\n" + DONE, "text/event-stream")

    def _error(self, status: int, message: str) -> Reply:
        return Reply(status, self.wire.error(status, message))

    def _truth(self) -> dict[str, Any]:
        engine = self._settings.engine
        return {
            "wire": engine.speaks,
            "seed": engine.seed,
            "algorithm": self._settings.algorithm,
            "draft_length": self._server.draft_length,
            "requests": [told.as_json(engine.speaks) for told in self.told],
        }
