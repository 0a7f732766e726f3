"""The flags of `speed-bench run` that say where the processes of its client are."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from rich.console import Console

F = TypeVar("F", bound=Callable[..., Any])


def worker_options(command: F) -> F:
    """Where workers are, and of which cluster."""
    place = click.option(
        "--workers-on",
        type=click.Choice(("here", "ray")),
        default="here",
        show_default=True,
        help="Where the processes of the client are: on this machine, or spread over the nodes of a Ray cluster.",
    )
    address = click.option("--address", metavar="ADDRESS", help="Of that cluster, such as HOST:6379.")
    return place(address(command))


@contextmanager
def workers_at(place: str, address: str | None, console: "Console") -> Iterator[dict[str, Any]]:
    """What `benchmark.run` is to be told of that. Raises ConfigError where the cluster is not reached."""
    if place == "here":
        if address is not None:
            raise click.UsageError("--address is of a Ray cluster; add --workers-on ray")
        yield {}
        return
    from speed_bench.sweep import ray_cluster
    from speed_bench.sweep.ray_workers import spread_over

    with ray_cluster.connected(address) as ray:
        yield {"make_crew": spread_over(ray, lambda line: console.print(line, highlight=False, markup=False))}
