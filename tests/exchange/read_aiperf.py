"""What the installed AIPerf makes of files; run with its interpreter.

    .venv-aiperf/bin/python read_aiperf.py < asked.json

reads a JSON list of objects, `path` and perhaps `kind` (a --custom-dataset-type), and prints a JSON list: of each the
kind that AIPerf takes the file for, and its conversations as (session_id, [(role, text) of each turn]).
"""

import json
import sys


def main() -> None:
    """Through its own choice of a loader and that loader."""
    from aiperf.common import random_generator
    from aiperf.config import BenchmarkConfig, BenchmarkRun
    from aiperf.dataset.composer.custom import CustomDatasetComposer

    random_generator.init(0)
    answers = []
    for asked in json.load(sys.stdin):
        dataset = {"name": "default", "type": "file", "path": asked["path"]}
        if "kind" in asked:
            dataset["format"] = asked["kind"]
        config = BenchmarkConfig.model_validate(
            {
                "models": ["none"],
                "endpoint": {"urls": ["http://127.0.0.1:9/v1/chat/completions"], "wait_for_model_timeout": 0},
                "datasets": [dataset],
                "phases": [{"name": "profiling", "type": "concurrency", "requests": 1, "concurrency": 1}],
            }
        )
        run = BenchmarkRun(benchmark_id="none", cfg=config, artifact_dir=config.artifacts.dir)
        composer = CustomDatasetComposer(run=run, tokenizer=None)
        conversations = composer.create_dataset()
        answers.append(
            {
                "kind": composer.detected_dataset_type.value,
                "conversations": [
                    [each.session_id, [[turn.role, turn.texts[0].contents[0]] for turn in each.turns]]
                    for each in conversations
                ],
            }
        )
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
