"""Sources that only curated editions draw from."""

from typing import Final

from speed_bench.data.sources.pinned import github
from speed_bench.data.sources.source import Source

_FASTCHAT = "0e6d3e4beaab66f4d3f93db72541a4abab8af28d"
_GSM8K = "3101c7d5072418e28b9008a6636bde82a006892c"
_CLAPNQ = "eb26840d130f4dcf4c4c5c12a47d0beffc9cc586"

FURTHER: Final = (
    Source(
        id="mt_bench",
        name="MT-Bench",
        url=f"https://github.com/lm-sys/FastChat/blob/{_FASTCHAT}/fastchat/llm_judge/data/mt_bench/question.jsonl",
        repo="lm-sys/FastChat",
        revision=_FASTCHAT,
        licence="Apache-2.0",
        terms="Apache-2.0; questions written for the benchmark",
        redistributable=True,
        feeds=("coding", "humanities", "math", "rag", "reasoning", "roleplay", "stem", "writing"),
        fields=("question_id", "category", "turns"),
        src_id="mt_bench_<question_id>",
        turns="`turns`",
        origin=github(
            "lm-sys/FastChat",
            _FASTCHAT,
            {"question.jsonl": "119565adbab82227089cefdb44c8d7e2cf04dc0a0ec233634c82e7d4e2a944f7"},
            "fastchat/llm_judge/data/mt_bench/",
        ),
        note="curated editions only; the first 80 rows of Spec-Bench are the same questions",
    ),
    Source(
        id="gsm8k",
        name="GSM8K",
        url=f"https://github.com/openai/grade-school-math/blob/{_GSM8K}/grade_school_math/data/test.jsonl",
        repo="openai/grade-school-math",
        revision=_GSM8K,
        licence="MIT",
        terms="MIT; problems written for the benchmark",
        redistributable=True,
        feeds=("math",),
        fields=("question",),
        src_id="gsm8k_<row> of the test set",
        turns="`question`",
        origin=github(
            "openai/grade-school-math",
            _GSM8K,
            {"test.jsonl": "3730d312f6e3440559ace48831e51066acaca737f6eabec99bccb9e4b3c39d14"},
            "grade_school_math/data/",
        ),
        note="curated editions only",
    ),
    Source(
        id="clapnq",
        name="CLAP NQ",
        url=f"https://github.com/primeqa/clapnq/tree/{_CLAPNQ}/annotated_data/dev",
        repo="primeqa/clapnq",
        revision=_CLAPNQ,
        licence="Apache-2.0; passages CC BY-SA 3.0",
        terms="Apache-2.0 on the questions and answers; the passages are Wikipedia's, to be named and shared alike",
        redistributable=True,
        feeds=("rag", "qa", "summarization"),
        fields=("id", "input", "passages"),
        src_id="clapnq_<id>",
        turns="`passages` before `input`; for qa `input` alone, for summarization `passages` alone",
        origin=github(
            "primeqa/clapnq",
            _CLAPNQ,
            {
                "annotated_data/dev/clapnq_dev_answerable.jsonl": (
                    "3eefef4a3d4e34c0f7d2c2eceb9bde263bf43ee8edac1b4fe8d74f8b6a0bdfbe"
                )
            },
        ),
        note="curated editions only",
    ),
)
