"""SPEED-Bench for `datasets`: the six published configs of an edition's folder, each row verified by its manifest.

    from speed_bench_dataset import SpeedBench                       # datasets 3, 4 and 5

    builder = SpeedBench(config_name="qualitative", data_dir="path/of/edition")
    builder.download_and_prepare()
    rows = builder.as_dataset(split="test")

    load_dataset("path/of/speed_bench_dataset.py", "qualitative", data_dir="path/of/edition", trust_remote_code=True)

The second form is for datasets 3: later ones run no scripts. Without `data_dir` it is the edition that ships with the
package. Who only wants the rows by name needs none of this: `speed-bench install --edition PATH`, then
`load_dataset("speed-bench", "qualitative")`.
"""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import datasets

from speed_bench.data.cached import SPLIT, describe, features, version_of
from speed_bench.data.configs import NUM_ROWS, choose
from speed_bench.data.editions import load


class SpeedBenchConfig(datasets.BuilderConfig):
    """A config, by its name. Which edition it is filled from tells the version and the hash of its folder in the
    cache: settings that choose the edition make it no other config."""

    def create_config_id(self, config_kwargs: dict[str, Any], custom_features: Any = None) -> str:
        """The name."""
        return str(self.name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SpeedBenchConfig) and self.name == other.name


class SpeedBench(datasets.GeneratorBasedBuilder):
    """The rows of an edition. Raises the package's errors for an edition that is not there, has too few rows of the
    config, or other rows than its manifest says."""

    BUILDER_CONFIG_CLASS = SpeedBenchConfig
    BUILDER_CONFIGS = [SpeedBenchConfig(name=name) for name in NUM_ROWS]  # noqa: RUF012 - datasets asks for a list
    DEFAULT_WRITER_BATCH_SIZE = 100  # rows that are held at once: of the longest prompts, 16 MB

    def __init__(self, *args: Any, config_name: str | None = None, data_dir: str | None = None, **options: Any) -> None:
        if config_name in NUM_ROWS:  # else datasets says which there are
            self.chosen = choose(data_dir or "open", (config_name,))
            options |= {"hash": self.chosen.sha256, "version": datasets.Version(version_of(self.chosen.version))}
        super().__init__(*args, config_name=config_name, data_dir=data_dir, **options)

    def _info(self) -> datasets.DatasetInfo:
        name = self.config.name
        return datasets.DatasetInfo(
            **describe(self.chosen.manifest, name, self.chosen.configs[name]),
            features=datasets.Features.from_dict(features()),
        )

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        return [datasets.SplitGenerator(name=SPLIT)]

    def _generate_examples(self) -> Iterator[tuple[int, dict[str, Any]]]:
        yield from enumerate(map(asdict, load(str(self.chosen.folder), self.config.name).rows))
