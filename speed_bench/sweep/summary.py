"""The numbers of all cells together, at any time: while a sweep runs, after it, or after it was stopped."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from speed_bench.errors import SpeedBenchError, unwritable
from speed_bench.run_scores import SCORES, baseline_folder, machine_of, require_as_asked, score_folder
from speed_bench.runner.journal import read_run_file, read_segments, write_whole
from speed_bench.scores import Cell, Distribution, Scores, Serving
from speed_bench.sweep.cells import Cell as SweepCell
from speed_bench.sweep.choosing import best_draft_lengths, with_other_turns_told
from speed_bench.sweep.folder import read_errors, read_sweep, state_of
from speed_bench.sweep.plan import NAMED
from speed_bench.sweep.results import CellResult, Headline, Summary
from speed_bench.sweep.spec import flat, is_of_drafts

SUMMARY, SUMMARY_CSV = "summary.json", "summary.csv"
_ALWAYS = (*NAMED, "edition", "draft", "engine.name")
"""Settings that are always told, whether or not they are swept over."""
_NO_BASELINE = "it has no run without speculation to be compared with"


def summarise(folder: Path) -> Summary:
    """Read all cells of a sweep, score those that are finished, and write `summary.json` and `summary.csv`.

    Raises RunFolderError where the folder is of no sweep. What is wrong with a cell is the cell's.
    """
    file = read_sweep(folder)
    errors = read_errors(folder)
    cells = file.planned()
    swept = _differing(cells)
    paths = {cell.name: cell.folder(folder) for cell in cells}
    results = with_other_turns_told(
        [_result(cell, folder, errors, swept) for cell in cells], lambda cell: paths[cell.name]
    )
    summary = Summary(swept=list(swept), cells=results, best=best_draft_lengths(results, lambda cell: paths[cell.name]))
    write_whole(folder / SUMMARY, summary.model_dump(mode="json"))
    _write_csv(folder / SUMMARY_CSV, summary)
    return summary


def _differing(cells: Sequence[SweepCell]) -> dict[str, None]:
    """The dotted keys that are swept over, those of every name first.

    What cells without speculation have otherwise because they draft nothing is not meant, so these are compared with
    each other only.
    """
    settings = [flat(cell.config.model_dump(mode="json")) for cell in cells]
    keys = dict.fromkeys([*_ALWAYS, *(key for each in settings for key in each)])
    drafting = [each for each in settings if each["algorithm"] != "none"]
    plain = [each for each in settings if each["algorithm"] == "none"]

    def differs(key: str, among: Sequence[Mapping[str, Any]]) -> bool:
        return any(each.get(key) != among[0].get(key) for each in among)

    return {
        key: None
        for key in keys
        if differs(key, drafting) or differs(key, plain) or (key == "algorithm" and differs(key, settings))
    }


def _result(cell: SweepCell, folder: Path, errors: Mapping[str, str], swept: Mapping[str, None]) -> CellResult:
    settings = flat(cell.config.model_dump(mode="json"))
    drafts = cell.config.algorithm != "none"
    told = {
        key: settings.get(key) if drafts or not is_of_drafts(key) else None for key in dict.fromkeys([*_ALWAYS, *swept])
    }
    fields: dict[str, Any] = {
        "name": cell.name,
        "settings": told,
        "repeat": cell.repeat,
        "baseline": cell.baseline,
        "error": errors.get(cell.name),
    }
    try:
        fields["state"] = state_of(cell, folder, dict(errors))
        if fields["state"] == "finished":
            at = cell.folder(folder)
            scores, elsewhere = current_scores(at), read_run_file(at).timed_elsewhere(read_segments(at))
            fields["doubt"] = require_as_asked(scores, cell.config.algorithm) or elsewhere
            fields["headline"] = headline(scores)
            fields["machine"] = machine_of(read_run_file(cell.folder(folder)))
    except SpeedBenchError as error:
        fields |= {"state": "failed", "error": fields["error"] or str(error)}
    return CellResult(**fields)


def current_scores(folder: Path) -> Scores:
    """The scores of a run: as they were computed, unless its journal or that of its baseline is newer.

    Raises what `score_folder` does.
    """
    path = folder / SCORES
    journals = [folder]
    if (baseline := baseline_folder(folder, read_run_file(folder))) is not None:
        journals.append(baseline)
    try:
        scored_ns = path.stat().st_mtime_ns
        files = [
            file for each in journals for pattern in ("turns-*.jsonl", "segments.jsonl") for file in each.glob(pattern)
        ]
        if all(file.stat().st_mtime_ns < scored_ns for file in files):
            return Scores.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        pass  # not there, or of another version
    return score_folder(folder)


def headline(scores: Scores) -> Headline:
    """The choice of a run's numbers that stands in the summary."""
    overall, serving, against = scores.acceptance.overall, scores.serving, scores.baseline
    of_serving = {name: getattr(serving, name) for name in Headline.model_fields.keys() & Serving.model_fields.keys()}
    return Headline(
        **{**of_serving, "num_turns": scores.num_turns, "num_turns_timed": serving.num_turns},
        acceptance_length=overall.acceptance_length,
        draft_acceptance_rate=overall.draft_acceptance_rate,
        goodput_rps=serving.goodput.goodput_rps if serving.goodput else Cell.undefined("there is no SLO"),
        speedup_output_tps=against.speedup_output_tps if against else Cell.undefined(_NO_BASELINE),
        speedup_tpot=against.speedup_tpot if against else Cell.undefined(_NO_BASELINE),
        counts_equal=scores.reconciliation.equal,
        client_limited=serving.client.limited if serving.client else None,
        num_failures=scores.num_failures,
    )


def _write_csv(path: Path, summary: Summary) -> None:
    """A line per cell: value, low and high of every number, and p50, p90, p95, p99 of times; empty is undefined."""
    rows = [_csv_row(cell) for cell in summary.cells]
    columns = dict.fromkeys(key for row in rows for key in row)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    try:
        path.write_text(text.getvalue(), "utf-8")
    except OSError as error:
        raise unwritable(path, error) from error


def _csv_row(cell: CellResult) -> dict[str, Any]:
    row = {"name": cell.name, **cell.settings, "repeat": cell.repeat, "state": cell.state, "error": cell.error or ""}
    row["not_compared"] = cell.not_compared or ""
    if cell.headline is None:
        return row
    for name in Headline.model_fields:
        value = getattr(cell.headline, name)
        if isinstance(value, Cell | Distribution):
            row |= {name: value.value, f"{name}_low": value.low, f"{name}_high": value.high}
            if isinstance(value, Distribution):
                row |= {f"{name}_{rank}": getattr(value, rank) for rank in ("p50", "p90", "p95", "p99")}
        else:
            row[name] = value
    return row
