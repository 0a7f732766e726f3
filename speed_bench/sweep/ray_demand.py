"""What a cell of a sweep asks of a cluster: its GPUs, enough CPUs not to be disturbed, an engine to itself."""

from collections.abc import Sequence

from speed_bench.config import RunConfig
from speed_bench.engine_config import LlamaCppConfig
from speed_bench.errors import ConfigError
from speed_bench.runner.workers import STREAMS_PER_WORKER
from speed_bench.scoring import load_of
from speed_bench.sweep.cells import Cell
from speed_bench.sweep.ray_cluster import Resources

CPUS_PER_GPU = 4
"""Of an engine that serves one: its workers, its scheduler and its HTTP server."""


def demand(config: RunConfig) -> Resources:
    """What a run needs where it is made: the client's processes, and those of an engine that it starts.

    >>> from speed_bench.config import resolve
    >>> config, _ = resolve({"model": "org/model", "engine.name": "vllm", "engine.tensor_parallel": 4})
    >>> demand(config)
    Resources(num_cpus=17, num_gpus=4)
    """
    client = config.workers or -(-config.concurrency // STREAMS_PER_WORKER)
    if config.engine.attached:
        return Resources(client, 0)
    num_gpus = load_of(config).num_gpus or 0
    threads = config.engine.threads if isinstance(config.engine, LlamaCppConfig) else 1
    return Resources(client + max(threads, CPUS_PER_GPU * num_gpus), num_gpus)


def placed(cell: Cell, nodes: Sequence[Resources]) -> Resources:
    """What a cell asks for, in view of the nodes: no more CPUs than there are beside its GPUs.

    Raises ConfigError where no node has its GPUs.
    """
    wanted = demand(cell.config)
    beside = [node.num_cpus for node in nodes if node.num_gpus >= wanted.num_gpus]
    if not beside:
        most = max((node.num_gpus for node in nodes), default=0)
        raise ConfigError(
            f"cell {cell.name} asks for {wanted.num_gpus:g} GPUs on one node, the most that a node of the cluster has "
            f"is {most:g}; leave it out, or say how many it needs with num_gpus"
        )
    if max(beside) < 1:
        raise ConfigError(f"cell {cell.name} needs a CPU, but no node of the cluster lends any to tasks")
    return Resources(min(wanted.num_cpus, int(max(beside))), wanted.num_gpus)


def sole_use(config: RunConfig) -> str | None:
    """What only one cell at a time can have: the server that it attaches to, or the port that it names."""
    engine = config.engine
    if engine.url is not None:
        return engine.url.rstrip("/")
    return None if engine.port is None else f"port {engine.port}"
