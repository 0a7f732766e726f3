"""What our client costs per streamed event, and how far its times are from the truth, beside other clients.

    python benchmarks/client_load.py --json load.json      # everything: about a quarter of an hour
    python benchmarks/client_load.py --quick               # ours, the line reader and AIPerf, short: two minutes
    python benchmarks/client_load.py --memory              # ours alone, over a million events: a minute

A server in a process of its own (`event_server`) sends a chunk per stream every 50 ms, on an absolute schedule, and
remembers when it sent each. Clients take turns, each in processes of its own and with a server of its own, all on
this machine. Ours is the whole of `speed-bench run`; the others (`clients`) are a line reader that keeps the
same journal (`peers`) and the programs AIPerf, GuideLLM and `vllm bench serve`. Environments that are missing are made.

**CPU** is of all processes of a client, from the first request that the server gets on: of ours and the line reader
until all turns are on disk, parsed; of the programs until the last chunk was sent, whatever they still have to parse.
An event is a chunk with a token. **start** is from the start of the process to that first request. **lag** is a
client's stamp of a chunk minus the server's. The **TTFT error** is the client's time to the first token minus the true
one, from when the request reached the server's socket to when the first chunk left it: of each request, where a client
tells which it was, else between percentiles. A client's clock is set so that no request arrives before it was sent.
A **pause** is from the end of an answer to the next request of its stream. **others** are the cores that everything
else on the machine kept busy: times are only worth something where it is far below the number of cores.

Then the same at 20 ms: 25,600 events a second. There a client has the median gap right, or says that it was the limit.
"""

import argparse
import json
import os
import platform
import subprocess
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from cases import Case, Load, measured
from clients import CLIENTS, OURS, FloatArray

SLOW = ("guidellm", "vllm")
"""They take a minute to start, and run `SLOW_RUNS` times."""
SLOW_RUNS = 2
QUICK = ("aiohttp", "aiperf")
CHUNKS, QUICK_CHUNKS = (180, 220), (70, 90)
DENSE_MS = 20.0
DENSE_RUNS = 3
"""Of ours; of the others one."""
MEMORY_ROUNDS = 10

PEERS = tuple(name for name in CLIENTS if name != OURS)
Cases = dict[str, list[Case]]


def alternating(names: list[str], runs: dict[str, int], load: Load) -> Cases:
    """Every client so many times, one after the other, again and again."""
    cases: Cases = {name: [] for name in names}
    for number in range(max(runs.values())):
        for name in names:
            if number < runs[name]:
                cases[name].append(measured(CLIENTS[name], load))
                print(f"  {name} {number + 1}/{runs[name]}: {cases[name][-1].us_per_event:.1f} µs", flush=True)
    return cases


def ratios(cases: Cases, name: str) -> list[float]:
    """Our CPU per event / another's, of the runs that followed each other."""
    return [ours.us_per_event / other.us_per_event for ours, other in zip(cases[OURS], cases[name], strict=False)]


def spread(values: list[float], form: str = ".1f") -> str:
    """Median and range."""
    if not values:
        return "–"
    low, high = min(values), max(values)
    return f"{median(values):{form}} [{low:{form}}–{high:{form}}]" if len(values) > 1 else f"{values[0]:{form}}"


def medians(arrays: list[FloatArray], form: str = ".1f") -> str:
    """Over runs, of each of several percentiles."""
    known = [array for array in arrays if array.size]
    return " / ".join(f"{value:{form}}" for value in np.median(known, axis=0)) if known else "–"


def table(cases: Cases, load: Load) -> str:
    """A row per client."""
    heads = ["client", "n", "CPU µs/event", "ours / it", "start s", "TTFT error ms, p50 / p99"]
    heads += ["gap ms, p1 / p50 / p99", "lag ms, p50 / p99 / max", "pause ms, p50 / p99", "others"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, runs in cases.items():
        cells = [
            name,
            len(runs),
            spread([case.us_per_event for case in runs]),
            "1" if name == OURS else spread(ratios(cases, name), ".2f"),
            spread([case.start_s for case in runs]),
            medians([case.ttft_error_ms for case in runs]),
            medians([case.gaps_ms for case in runs]),
            medians([case.lag_ms for case in runs], ".2f"),
            medians([case.pauses_ms for case in runs]),
            spread([case.others for case in runs]),
        ]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    every = [case for runs in cases.values() for case in runs]
    lines += [
        "",
        f"{load.streams} streams, a chunk every {load.interval_ms:g} ms: {median(c.events_per_s for c in every):.0f} "
        f"events/s, {median(c.num_events for c in every):.0f} in all. The server itself was late by "
        f"{medians([case.server_late_ms for case in every], '.2f')} ms (p50 / p99), its gaps were "
        f"{medians([case.true_gaps_ms for case in every])} ms (p1 / p50 / p99).",
        own_words(cases[OURS][-1]),
    ]
    return "\n".join(lines)


def own_words(case: Case) -> str:
    """What ours said of itself in its last run."""
    own = " / ".join(f"{1e3 * case.own['lateness_s'][name]:.2f}" for name in ("p50_s", "p99_s", "max_s"))
    return (
        f"Ours said the last time that it was late by {own} ms (p50 / p99 / max), that it took "
        f"{1e6 * case.own['cpu_s'] / case.num_events:.1f} µs/event, and that it was "
        f"{'' if case.own['limited'] else 'not '}the limit."
    )


def memory(load: Load) -> dict[str, float]:
    """Ours over a long run: what it holds at a quarter of the events, and at the end."""
    case = measured(CLIENTS[OURS], load, watch_memory=True)
    shares, sizes = np.array([share for share, _ in case.rss]), np.array([num for _, num in case.rss]) / 2**20
    at = {share: float(np.median(sizes[np.argsort(np.abs(shares - share))[:3]])) for share in (0.25, 0.5, 0.75, 0.97)}
    told = ", ".join(f"{mib:.0f} MiB at {share:.0%}" for share, mib in at.items())
    print(f"memory over {case.num_events:,} events at {case.events_per_s:.0f} a second: {told}; most {sizes.max():.0f}")
    return {"events": case.num_events, "mib_at_25": at[0.25], "mib_at_97": at[0.97], "mib_most": float(sizes.max())}


def figures(paced: Cases, dense: Cases) -> dict[str, Any]:
    """What `--json` writes: medians over runs, of ratios over those that followed each other; null without a peer."""
    ours, ours_dense = paced[OURS], dense[OURS]
    ttft, lag = (np.median([getattr(c, name) for c in ours], axis=0) for name in ("ttft_error_ms", "lag_ms"))
    return {
        **{f"cpu_ratio_{name}": median(ratios(paced, name)) if name in paced else None for name in PEERS},
        "ttft_error_ms": {"p50": ttft[0], "p99": ttft[1]},
        "chunk_lag_ms": {"p50": lag[0], "p99": lag[1]},
        "lateness_over_lag_p99": median(1e3 * c.own["lateness_s"]["p99_s"] / c.lag_ms[1] for c in ours),
        "start_s": median(c.start_s for c in ours),
        "median_gap_ratio": median(c.gaps_ms[1] / c.true_gaps_ms[1] for c in ours_dense),
        "client_limited": [c.own["limited"] for c in ours_dense],
        "dense_events_per_s": median(c.events_per_s for c in ours_dense),
        "cpu_us_per_event": {name: [c.us_per_event for c in runs] for name, runs in paced.items()},
    }


def machine() -> dict[str, Any]:
    """Where it was measured."""
    with Path("/proc/cpuinfo").open() as lines:
        cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")
    return {"cores": os.cpu_count(), "cpu": cpu, "python": platform.python_version(), "kernel": platform.release()}


def is_ready(name: str) -> bool:
    """Whether a client's environment is there, made if need be; says why where it is not."""
    client = CLIENTS[name]
    try:
        client.make(client.python)
    except subprocess.CalledProcessError as error:
        print(f"{name} is left out: its environment cannot be made ({error})", flush=True)
        return False
    if not client.python.exists():
        print(f"{name} is left out: there is no {client.python}", flush=True)
    return client.python.exists()


def measure(options: argparse.Namespace, names: list[str]) -> dict[str, Any]:
    """Both loads, a table of each, and the figures."""
    chunks = tuple(options.chunks)
    paced = Load(options.streams, options.rounds, options.interval_ms, chunks, options.together)
    runs = {name: min(SLOW_RUNS, options.runs) if name in SLOW else options.runs for name in names}
    cases = alternating(names, runs, paced)
    print("", table(cases, paced), "", sep="\n", flush=True)
    with_gaps = [name for name in names if cases[name][0].gaps_ms.size]
    dense = Load(options.streams, 2 * options.rounds, DENSE_MS, chunks)
    runs = {name: min(DENSE_RUNS, options.runs) if name == OURS else 1 for name in with_gaps}
    dense_cases = alternating(with_gaps, runs, dense)
    print("", table(dense_cases, dense), "", sep="\n", flush=True)
    return figures(cases, dense_cases)


def main() -> None:
    """Measure, print a table per load, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    parser.add_argument("--quick", action="store_true", help=f"two short runs, beside {' and '.join(QUICK)}")
    parser.add_argument("--runs", type=int, help=f"of each client; of {' and '.join(SLOW)} {SLOW_RUNS} [default: 5]")
    parser.add_argument("--peers", metavar="A,B,…", help=f"some of {', '.join(PEERS)}, or none [default: all]")
    parser.add_argument("--memory", action="store_true", help="ours alone, over a million events")
    parser.add_argument("--streams", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=2, help="requests of each stream")
    parser.add_argument("--interval-ms", type=float, default=50.0, help="between two chunks of a stream")
    parser.add_argument("--chunks", type=int, nargs=2, help="fewest and most of an answer")
    parser.add_argument("--together", action="store_true", help="all streams at once, as after a decode step")
    options = parser.parse_args()
    options.runs = options.runs or (2 if options.quick else 5)
    options.chunks = options.chunks or (QUICK_CHUNKS if options.quick else CHUNKS)
    asked = options.peers.split(",") if options.peers else QUICK if options.quick else PEERS
    asked = () if options.peers == "none" else asked
    for name in asked:
        if name not in PEERS:
            parser.error(f"--peers: '{name}' is none of {', '.join(PEERS)}")
    print(f"{machine()}, load average {os.getloadavg()[0]:.1f}", flush=True)
    if options.memory:
        found = {"memory": memory(Load(options.streams, MEMORY_ROUNDS, DENSE_MS, CHUNKS))}
    else:
        found = measure(options, [OURS, *filter(is_ready, asked)])
    if options.json:
        options.json.write_text(json.dumps({"machine": machine(), **found}, indent=2, default=float) + "\n", "utf-8")


if __name__ == "__main__":
    main()
