"""`load_dataset("org/name", …)` of what `speed-bench publish dataset` put on a Hub, with the wheel's own card."""

import json
import subprocess
import sys
from pathlib import Path

from compat.surroundings import clean_environment, speed_bench
from fake_hub import FakeHub

from speed_bench.data.configs import NUM_ROWS
from speed_bench.data.editions import load

LOAD = """
from datasets import get_dataset_config_names, load_dataset
import json
default = load_dataset("org/name")
throughput = load_dataset("org/name", "throughput_1k", split="test", streaming=True)
print(json.dumps([get_dataset_config_names("org/name"), default["test"].num_rows, default["test"][7],
                  sum(1 for row in throughput)]))
"""


def test_what_was_published_loads_by_its_name_on_the_hub(edition: Path, tmp_path: Path):
    with FakeHub() as hub:
        env = clean_environment(tmp_path, **hub.environment(tmp_path / "mine"))
        assert "created " in speed_bench("publish", "dataset", "--repo", "org/name", "--edition", str(edition), env=env)
        env = clean_environment(tmp_path, **hub.environment(tmp_path / "theirs", token=""))
        done = subprocess.run([sys.executable, "-c", LOAD], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    configs, num_rows, row, num_streamed = json.loads(done.stdout.splitlines()[-1])
    assert configs == ["qualitative", "throughput_1k"]
    assert (num_rows, num_streamed) == (NUM_ROWS["qualitative"], NUM_ROWS["throughput_1k"])
    assert row["turns"] == list(load(str(edition), "qualitative").rows[7].turns)
