"""The two calls with which llama.cpp's client loads its prompts, made where it would be started.

    python read_hub_name.py < asked.json

reads a JSON object, `folder` and `config`, and prints one: the names of the configs, and the rows as they are loaded.
"""

import json
import os
import sys


def main() -> None:
    """Offline, with the name that stands in the client."""
    from datasets import get_dataset_config_names, load_dataset

    asked = json.load(sys.stdin)
    os.chdir(asked["folder"])
    configs = get_dataset_config_names("nvidia/SPEED-Bench")
    rows = list(load_dataset("nvidia/SPEED-Bench", name=asked["config"], split="test"))
    json.dump({"configs": configs, "rows": rows}, sys.stdout)


if __name__ == "__main__":
    main()
