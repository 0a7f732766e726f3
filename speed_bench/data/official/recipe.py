"""What the rows of a config share: the builder's texts, the records, the length, and what runs on from row to row."""

import functools
from collections.abc import Sequence
from typing import Final

from speed_bench.data.o200k import decode, encode
from speed_bench.data.official.builder_file import Prompts
from speed_bench.data.official.records import Records, text
from speed_bench.data.sources.library import Record
from speed_bench.errors import ConfigError, DataError

HLE: Final = "hle"
HLE_FILE: Final = "default/test"
_SEED: Final = 42


class Recipe:
    """One config's state. A second one begins anew, as the official builder does for each config."""

    def __init__(self, prompts: Prompts, records: Records, num_tokens: int | None) -> None:
        self.prompts = prompts
        self.records = records
        self._num_tokens = num_tokens

    @property
    def by_length(self) -> bool:
        """Whether the prompts of this config have a length to keep."""
        return self._num_tokens is not None

    @property
    def num_tokens(self) -> int:
        """How long a prompt is to be. Raises DataError in a config that sets no length."""
        if self._num_tokens is None:
            raise DataError("its source is made to a length, and this config has none")
        return self._num_tokens

    @functools.cached_property
    def experts(self) -> "Experts":
        """Humanity's Last Exam, halved; made when the first row needs it."""
        return Experts(self.records.of(HLE, HLE_FILE), self.prompts)


class Experts:
    """Questions of Humanity's Last Exam behind as many others with their rationales as fit.

    One half of the exam gives the questions, the other the examples: those without image, of the question's category,
    drawn with replacement. The draws of all rows come from one generator, so that a row's prompt depends on the rows
    before it.
    """

    def __init__(self, records: Sequence[Record], prompts: Prompts) -> None:
        import numpy as np

        train, test = _halves(len(records))
        self._records = records
        self._prompts = prompts
        self._draws = np.random.default_rng(_SEED)
        self._questions = {records[row].fields.get("id"): records[row] for row in reversed(test)}
        self._examples: dict[str, list[int]] = {}
        for row in train:
            if records[row].fields.get("image") == "":
                self._examples.setdefault(text(records[row], "category"), []).append(row)
        self._tokens: dict[int, list[int]] = {}

    def prompt(self, question_id: str, num_tokens: int) -> str:
        """The next prompt, about `num_tokens` long: examples are cut to fit, the question never is."""
        record = self._questions.get(question_id)
        if record is None:
            raise DataError(f"no record has the id {question_id!r:.80} in the half of the exam that is asked")
        category, question = text(record, "category"), encode(text(record, "question"))
        examples = self._examples.get(category, [])
        ids = encode(self._prompts.expert_opening.fill({"category": category}))
        while len(ids) + len(question) < num_tokens:
            if not examples:
                raise DataError(f"the exam has no examples of the category {category!r:.80}")
            drawn = self._draws.choice(len(examples), size=1, replace=False)
            ids += self._encoded(examples[int(drawn[0])])
        return decode(ids[: num_tokens - len(question) + 1] + question)

    def _encoded(self, row: int) -> list[int]:
        """The tokens of an example, made once."""
        if row not in self._tokens:
            values = {name: text(self._records[row], name) for name in ("question", "rationale")}
            self._tokens[row] = encode(self._prompts.expert_example.fill(values))
        return self._tokens[row]


def _halves(num_rows: int) -> tuple[list[int], list[int]]:
    """Numbers of the rows to draw from and of those to ask: what `datasets` makes of any dataset of this size."""
    try:
        from datasets import Dataset
    except ModuleNotFoundError as error:
        raise ConfigError("the halves of the exam need datasets; pip install 'speed-bench[data]'") from error
    halves = Dataset.from_dict({"row": range(num_rows)}).train_test_split(test_size=0.5, shuffle=True, seed=_SEED)
    return list(halves["train"]["row"]), list(halves["test"]["row"])
