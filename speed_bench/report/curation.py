"""What a curation chose: a table for people, and a map of the pools with the picks on it."""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    import numpy as np

    from speed_bench.data.curation import Chosen

NONE = "–"


def print_curation(about: Mapping[str, Any], console: Console) -> None:
    """Per category: pool, similarity of the picks beside random ones and the older benchmark, bound, lengths."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 0))
    table.add_column("category\n", no_wrap=True)
    for heading in (
        "pool\n",
        "mean pair\nsimilarity",
        "from best\nat most",
        "random\npicks",
        "older\nbench",
        "closest\npair",
        "mean tokens\n(published)",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for category, facts in about["selection"].items():
        older, closest, length = facts["older_benchmark"], facts["max_pair"][2], about["lengths"][category]
        table.add_row(
            category,
            f"{facts['pool']:,}",
            f"{facts['mean_similarity']:.4f}",
            "none" if facts["no_selection"] else NONE if facts["gap"] is None else f"{facts['gap']:.4f}",
            f"{facts['random']:.4f}",
            f"{older['mean_similarity']:.4f}" if older else NONE,
            f"{closest:.2f}",
            f"{length['mean']:.0f} ({length['published_mean']})",
        )
    console.print(table)
    for category, facts in about["selection"].items():
        if pairs := facts["close_pairs"]:
            one, other, similarity = max(pairs, key=lambda pair: pair[2])
            _say(console, f"close pairs in {category}: {len(pairs)}, the closest {one} and {other}, {similarity:.2f}")
    for source, why in about["sources_left_out"].items():
        _say(console, f"{source} was not read: {why}")


def draw_map(chosen: Sequence["Chosen"]) -> bytes:
    """A PNG: a panel per category, the pool in grey and the picks on it, by the two directions in which it varies most.

    Two dimensions of several hundred show where picks lie, not how far apart they are.
    """
    import matplotlib

    matplotlib.use("agg")
    from matplotlib.figure import Figure

    columns = 4
    rows = -(-len(chosen) // columns)
    figure = Figure(figsize=(3.2 * columns, 3.2 * rows), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for panel, each in zip(panels, chosen, strict=False):
        points, share = principal_plane(each.vectors)
        picked = points[list(each.picks)]
        panel.scatter(*points.T, s=3, color="0.75", linewidths=0, label="pool")
        panel.scatter(*picked.T, s=14, color="tab:red", linewidths=0, label="picks")
        panel.set_title(
            f"{each.category}: {len(each.picks)} of {len(each.pool):,} ({share:.0%} of variance)", fontsize=8
        )
        panel.set_xticks([])
        panel.set_yticks([])
    for panel in panels[len(chosen) :]:
        panel.set_axis_off()
    panels[-1].legend(*panels[0].get_legend_handles_labels(), loc="center", fontsize=9, markerscale=2)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()


def principal_plane(vectors: "np.ndarray") -> tuple["np.ndarray", float]:
    """Every vector's place in the plane of the two first principal components, and the share of variance in it.

    The sign of each axis is that of its largest coordinate, so that the same vectors always lie the same way.
    """
    import numpy as np

    centred = vectors - vectors.mean(axis=0)
    variances, axes = np.linalg.eigh(centred.T.astype(np.float64) @ centred)
    axes = axes[:, -2:][:, ::-1]
    points = centred @ axes
    points *= np.sign(points[np.abs(points).argmax(axis=0), range(points.shape[1])])
    return points, float(variances[-2:].sum() / max(variances.sum(), np.finfo(float).tiny))


def _say(console: Console, line: str) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)
