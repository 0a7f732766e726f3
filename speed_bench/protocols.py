"""Protocols: what makes two runs comparable. Each is a set of settings that it fixes, under a name with a version.

A run in which any of them is changed is `custom`: measured and recorded all the same, never ranked.
"""

from typing import Any, Final

MIN_PROMPTS: Final = 256
"""Fewest conversations of a point under load, however few streams it has, where the config holds so many."""
MAX_CONCURRENCY: Final = 512
"""Of a point of `throughput-v1`."""

PROTOCOLS: dict[str, dict[str, Any]] = {
    "quick": {
        "categories": None,
        "limit_per_category": 2,
        "max_tokens": 64,
        "temperature": 0.0,
        "seeds": (0,),
        "concurrency": 1,
        "warmup_per_slot": 1,
        "history": "own",
    },
    "qualitative-v1": {
        "config": "qualitative",
        "categories": None,
        "limit_per_category": None,
        "max_tokens": 4096,
        "temperature": 0.0,
        "seeds": (0,),
        "concurrency": 32,
        "warmup_per_slot": 1,
        "history": "own",
    },
    "throughput-v1": {
        "limit_per_category": None,
        "num_prompts": None,
        "prompts_per_stream": 4,
        "repeat_prompts": False,
        "max_tokens": 4096,
        "ignore_eos": False,
        "temperature": 0.0,
        "seeds": (0,),
        "warmup_per_slot": 1,
        "history": "own",
        "arrivals": "closed",
        "ramp_up_s": 0.0,
        "think_time_s": 0.0,
        "max_duration_s": None,
    },
}
"""The settings that each fixes."""
PROTOCOLS["qualitative-t1-v1"] = PROTOCOLS["qualitative-v1"] | {"temperature": 1.0, "seeds": (0, 1, 2)}
DEFAULT_PROTOCOL = "quick"
THROUGHPUT_CONFIGS = "throughput_"
"""What the names of configs begin with that are there to be measured under load."""


def default_protocol(config: object) -> str:
    """The protocol of a config of prompts where none is named.

    >>> default_protocol("throughput_8k"), default_protocol("starter")
    ('throughput-v1', 'quick')
    """
    return "throughput-v1" if str(config).startswith(THROUGHPUT_CONFIGS) else DEFAULT_PROTOCOL


def broken_rules(protocol: str, config: str, categories: tuple[str, ...] | None, concurrency: int) -> set[str]:
    """The settings in which a run breaks what `throughput-v1` demands without fixing one value: a bucket, one tier
    of it or all together, and at most 512 streams."""
    if protocol != "throughput-v1":
        return set()
    kept = {
        "config": config.startswith(THROUGHPUT_CONFIGS),
        "categories": categories is None or len(categories) == 1,
        "concurrency": concurrency <= MAX_CONCURRENCY,
    }
    return {key for key, is_kept in kept.items() if not is_kept}
