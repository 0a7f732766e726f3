"""Write `manifest.json` for the rows of an edition's folder.

    python dataset_scripts/describe_edition.py speed_bench/data/open

Counts tokens under o200k_base: needs `pip install tiktoken`, and the network or TIKTOKEN_CACHE_DIR.
"""

import sys
from pathlib import Path

import orjson

from speed_bench.data.manifest import describe_config
from speed_bench.data.o200k import NAME, count
from speed_bench.data.schema import conversation

FACTS = {
    "edition": "open",
    "version": "0.1.0",
    "licence": "CC-BY-4.0",
    "redistributable": True,
    "source": "written for SPEED-Bench",
    "tokenizer": NAME,
}


def main(folder: Path) -> None:
    """Describe every `<config>.jsonl` of the folder."""
    configs = {}
    for file in sorted(folder.glob("*.jsonl")):
        rows = [conversation(orjson.loads(line), file.name) for line in file.read_bytes().splitlines()]
        configs[file.stem] = describe_config(rows, count)
    manifest = {**FACTS, "builder": f"dataset_scripts/{Path(__file__).name}", "configs": configs}
    (folder / "manifest.json").write_bytes(orjson.dumps(manifest, option=orjson.OPT_INDENT_2) + b"\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
