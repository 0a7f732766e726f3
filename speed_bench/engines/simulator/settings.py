"""What a simulator's process is given: JSON on its command line, checked."""

from pydantic import Field, field_validator

from speed_bench.algorithms import ALGORITHMS
from speed_bench.data.editions import load
from speed_bench.data.random_tokens import CONFIG as RANDOM_PROMPTS
from speed_bench.engine_config import Settings, SimulatorConfig
from speed_bench.engines.simulator import ALGORITHMS as SIMULATED
from speed_bench.engines.simulator.truth import Answer, Asked, Habits, Speculation, Vocabulary, answer
from speed_bench.errors import SpeedBenchError, unknown
from speed_bench.models import EMBEDDED_MODEL


class ServerSettings(Settings):
    """Everything that the server needs to know."""

    engine: SimulatorConfig = SimulatorConfig()
    algorithm: str = "none"
    draft_length: int | None = Field(default=None, ge=1)
    """None: the algorithm's own."""
    concurrency: int = Field(default=1, ge=1)
    """Streams of the run that starts it."""
    port: int = Field(ge=0, le=65535)
    """0: a free one, which the first line that it prints names."""
    model: str = EMBEDDED_MODEL.key
    """A GGUF file, named as for `--model`; only its vocabulary is used."""
    edition: str | None = None
    config: str = "starter"
    """Where questions have their categories from; no edition: they have none."""
    kept: bool = False
    """Whether somebody else sees to its end: it watches neither its parent nor its standard input."""

    @field_validator("algorithm")
    @classmethod
    def _simulated(cls, algorithm: str) -> str:
        if algorithm not in SIMULATED:
            raise ValueError(unknown("algorithm", algorithm, SIMULATED))
        return algorithm

    @property
    def places(self) -> int:
        """Requests that are in the batch at once; more wait."""
        return self.engine.max_batch or self.concurrency

    @property
    def speculation(self) -> Speculation:
        """How it drafts."""
        engine = self.engine
        length = self.draft_length or ALGORITHMS[self.algorithm].draft_length or 0
        return Speculation(
            self.algorithm,
            0 if self.algorithm == "none" else length,
            engine.acceptance,
            engine.category_acceptance,
            engine.no_proposal,
        )

    def answer(self, asked: Asked, vocabulary: Vocabulary, habits: Habits) -> Answer:
        """The truth of a request. Raises ValueError for a prompt that leaves no room in the context."""
        return answer(
            asked,
            seed=self.engine.seed,
            mean_output_tokens=self.engine.mean_output_tokens,
            context_length=self.engine.context_length,
            vocabulary=vocabulary,
            speculation=self.speculation,
            habits=habits,
        )

    def categories(self) -> dict[str, str]:
        """The category of every question; empty without an edition.

        Raises SpeedBenchError if the edition cannot be read, or has not the categories that have an acceptance. The
        category of random prompts passes with any edition, and beside it any other passes with random prompts: the two
        are compared under one truth.
        """
        rows = load(self.edition, self.config).rows if self.edition is not None else ()
        found = {row.question_id: row.category for row in rows}
        named, known = self.engine.category_acceptance.keys(), set(found.values())
        if RANDOM_PROMPTS in named & known:
            return found
        if missing := named - known - ({RANDOM_PROMPTS} if known else set()):
            raise SpeedBenchError(
                f"engine.category_acceptance has {', '.join(sorted(missing))}, "
                f"which are no categories of {self.edition or 'no edition'}/{self.config}"
            )
        return found
