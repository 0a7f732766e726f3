"""The process that embeds llama.cpp; a script of its own, run by `llama_cpp.launch`.

    python llama_cpp_server.py '{"model": "…", "port": 8080, …}'

It ends when the pipe on its standard input closes or its parent dies.
"""

import json
import os
import signal
import sys
import threading
from typing import Any

PR_SET_PDEATHSIG = 1
TYPE_PREFIX = "COMMON_SPECULATIVE_TYPE_"


def die_with_parent() -> None:
    """Two ways, since one is only on Linux and the other can be held open by a sibling."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

    def watch() -> None:
        while os.read(0, 4096):
            pass
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


def parameters(config: dict[str, Any]) -> Any:
    """`config`, in llama.cpp's own spelling."""
    import xllamacpp

    p = xllamacpp.CommonParams()
    p.model.path = config["model"]
    p.n_ctx = config["context_length"] * config["concurrency"]
    p.n_parallel = config["concurrency"]
    p.kv_unified = False
    p.hostnames, p.port = [config["host"]], config["port"]
    p.ui, p.endpoint_metrics, p.cache_prompt = False, True, False
    p.cpuparams.n_threads = p.cpuparams_batch.n_threads = config["threads"]
    if config["type"] is not None:
        p.speculative.types = [getattr(xllamacpp.common_speculative_type, TYPE_PREFIX + config["type"])]
        p.speculative.draft.n_max = config["draft_length"]
        p.speculative.ngram_simple.size_n = config["ngram_size"]
        p.speculative.ngram_simple.size_m = config["draft_length"]
        p.speculative.draft.cpuparams.n_threads = p.speculative.draft.cpuparams_batch.n_threads = config["threads"]
    if config["draft"] is not None:
        p.speculative.draft.mparams.path = config["draft"]
    for name, value in config["extra"].items():
        *path, last = name.split(".")
        target = p
        for part in path:
            target = getattr(target, part)
        if not hasattr(target, last):
            raise SystemExit(f"llama.cpp has no parameter '{name}'")
        setattr(target, last, value)
    return p


def main() -> None:
    """Serve until the parent is gone."""
    die_with_parent()
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # spin-waiting starves whoever shares the machine
    import xllamacpp

    server = xllamacpp.Server(parameters(json.loads(sys.argv[1])))  # noqa: F841  (it serves while it is held)
    threading.Event().wait()


if __name__ == "__main__":
    main()
