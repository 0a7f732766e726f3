"""`speed-bench data import`, `export` and `verify`."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from speed_bench.cli.data.group import data

if TYPE_CHECKING:
    from speed_bench.data.exchange.copies import Checked

SHOWN = 20
"""Differing rows of a config that are printed; --json has all."""


@data.command(name="import", short_help="Make an edition of files that you have.")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE…")
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="DIR", help="The edition's folder.")
@click.option("--config", metavar="NAME", help="What the rows are called there. [default: see above]")
@click.option("--format", "shape", metavar="NAME", help="[default: what the records show]")
@click.option("--edition", metavar="NAME", help="[default: official for official builders, else imported]")
@click.option("--version", metavar="V", help="[default: the builder's name, or 1]")
@click.option("--category", metavar="NAME", help="Of rows that have none. [default: imported]")
@click.option("--licence", metavar="TEXT", help="Of the texts. [default: unknown]")
@click.option("--redistributable", is_flag=True, help="The licence lets these texts be passed on.")
@click.option("--force", is_flag=True, help="Replace configs that are there.")
def import_(
    paths: tuple[Path, ...],
    out: Path,
    config: str | None,
    shape: str | None,
    edition: str | None,
    version: str | None,
    category: str | None,
    licence: str | None,
    redistributable: bool,
    force: bool,
) -> None:
    """Make an edition of the output of an official builder, of a question.jsonl, or of any conversations.

    \b
    Formats, told apart by their records:
      model-optimizer  <config>/test.parquet of the builder of NVIDIA Model-Optimizer
      nemo-skills      <config>.jsonl of the builder of NeMo-Skills, with a published name
      rows             the eight columns, as Parquet or JSON lines
      spec-bench       question.jsonl of Spec-Bench
      mt-bench         question.jsonl of MT-Bench
      conversations    JSON lines with turns or messages

    \b
    What a config is called unless --config says:
      spec_bench, mt_bench        rows of those two, whatever the file is called
      <config> (its folder)       <config>/test.parquet, <config>/test-00000-of-00001.parquet
      the name without its end    any other file

    \b
    Examples:
      speed-bench data import out/speed --out official        every <config>/*.parquet and <config>.jsonl in it
      speed-bench data import question.jsonl --out spec-bench
      speed-bench data import chats.jsonl --out mine --edition mine --licence CC-BY-4.0 --redistributable
    """
    from speed_bench.data.exchange import imports

    files = imports.files_in(paths)
    if config and len(files) > 1:
        raise click.UsageError("--config names one file's rows; import the files one by one")
    read = [imports.read(path, config=config, shape=shape, category=category) for path in files]
    facts = imports.facts_of(read, edition=edition, version=version, licence=licence, redistributable=redistributable)
    for path, each in zip(files, read, strict=True):
        click.echo(f"{path}: {_num(len(each.rows), 'row')}, {each.shape.name}")
        for sentence in _losses(each.about):
            click.echo(f"  {sentence}")
    manifest = imports.write(out, facts, read, force=force)
    for each in read:
        entry = manifest["configs"][each.config]
        click.echo(
            f"{out / each.config}: {_num(entry['num_rows'], 'row')}, {_num(entry['num_turns'], 'turn')}, "
            f"{_num(entry['num_tokens_o200k'], 'o200k_base token')}"
        )
    followed = facts.builder.get("followed")
    click.echo(
        f"{out}: edition {facts.edition}, version {facts.version}, licence {facts.licence}"
        + (f", rows as {followed} makes them" if followed else "")
    )
    click.echo(f"use: speed-bench run --edition {shlex.quote(str(out))} --config {read[0].config}")


@data.command(name="export", short_help="Write prompts as the file of another tool.")
@click.option("--edition", default="open", show_default=True, metavar="NAME|PATH", help="Which prompts.")
@click.option("--config", default="starter", show_default=True, metavar="NAME", help="Which part of the edition.")
@click.option("--categories", metavar="A,B,…", help="Only these. [default: all]")
@click.option("--to", "name", required=True, metavar="FORMAT", help="See above.")
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="FILE", help="llama-cpp: a folder.")
@click.option("--turns", type=click.Choice(["all", "first"]), help="first: leave out the later turns of a row.")
@click.option("--force", is_flag=True, help="Replace what is there.")
def export(
    edition: str, config: str, categories: str | None, name: str, out: Path, turns: str | None, force: bool
) -> None:
    """Write the prompts of a config as a file that another tool reads: the raw text of the user's turns.

    A format that holds one turn per row refuses rows with several, unless --turns first says to leave them out.

    \b
    Formats, and how many turns of a row they hold:
      vllm           first  vllm bench serve --dataset-name custom
      sglang         all    sglang.bench_serving --dataset-name agentic-trace
      sglang-openai  first  sglang.bench_serving --dataset-name openai
      aiperf         all    aiperf profile --custom-dataset-type multi_turn
      guidellm       all    guidellm run --data kind=json_file
      llama-cpp      all    speed_bench.py of llama.cpp
      nemo-skills    all    AIPerf's speed_bench types; vLLM's speed_bench, which sends the first
      jsonl          all    the eight columns; vLLM's spec_bench and SGLang's speed-bench, which send the first
      parquet        all    the eight columns

    \b
    Examples:
      speed-bench data export --to aiperf --out starter.jsonl
      speed-bench data export --edition official --config qualitative --to vllm --turns first --out prompts.jsonl
    """
    from speed_bench.data.editions import RANDOM, folder_of, load, read_manifest, select
    from speed_bench.data.exchange import exports
    from speed_bench.errors import ConfigError

    to = exports.target(name)
    dataset = load(edition, config)
    chosen = None if categories is None else tuple(each.strip() for each in categories.split(",") if each.strip())
    if chosen == ():
        raise ConfigError("--categories names no category; leave it out for all of them")
    rows = select(dataset.rows, chosen, None)
    wanted: exports.Turns | None = "first" if turns == "first" else "all" if turns == "all" else None
    done = exports.export(rows, config, to, out, turns=wanted, force=force)
    click.echo(
        f"{out}: {_num(done.num_rows, 'row')}, {_num(done.num_turns, 'turn')} "
        f"of {dataset.edition} {dataset.version}/{config} ({dataset.manifest_sha256[:12]})"
    )
    if done.num_turns_left_out:
        click.echo(f"left out: {_num(done.num_turns_left_out, 'later turn')} (--turns first)")
    click.echo(f"other columns kept: {to.keeps}")
    if to.note:
        click.echo(f"note: {to.note}")
    made_up = edition.startswith(RANDOM)  # and so has no manifest, and nobody's text
    if not made_up and (num := exports.num_restricted(read_manifest(folder_of(edition)), config, rows)):
        click.echo(f"{num} of these texts may not be passed on, or it is not known that they may: keep the file here")
    click.echo(f"use: {done.usage}")


@data.command(short_help="Check a copy of an edition against a manifest.")
@click.argument("copy", metavar="EDITION")
@click.option("--config", metavar="NAME", help="[default: all that both have]")
@click.option("--against", metavar="MANIFEST|EDITION", help="[default: the copy's own manifest.json]")
@click.option("--tokens", is_flag=True, help="Count the o200k_base tokens of every turn again, too.")
@click.option("--json", "as_json", is_flag=True, help="All differing rows, for programs.")
def verify(copy: str, config: str | None, against: str | None, tokens: bool, as_json: bool) -> None:
    """Compare a copy with what a manifest says of every row, and list the rows that differ.

    EDITION is the name of a bundled edition, a folder (an edition, or the output of an official builder) or one file. A
    manifest holds hashes and no text, so a copy can be compared with one that somebody published. Exit code 1 if
    rows differ, 2 if the copy or the manifest cannot be read.

    \b
    Examples:
      speed-bench data verify open
      speed-bench data verify out/speed --against official/manifest.json
      speed-bench data verify qualitative.jsonl --against official/manifest.json --json
    """
    from speed_bench.data.exchange.copies import verify_copy

    checked = verify_copy(copy, config=config, against=against, tokens=tokens)
    if as_json:
        click.echo(_json(checked))
    else:
        for each in checked:
            click.echo(f"{each.config}: {_num(each.num_rows, 'row')}, {each.sha256}, {_verdict(each)}")
            for question_id, what in each.differences[:SHOWN]:
                click.echo(f"  {question_id} {what}")
            if (more := len(each.differences) - SHOWN) > 0:
                click.echo(f"  … and {more} more; --json lists all")
    sys.exit(0 if all(each.ok for each in checked) else 1)


def _losses(about: object) -> list[str]:
    """What a file held that the rows do not, in sentences."""
    facts = about if isinstance(about, dict) else {}
    columns = facts.get("columns_left_out", {})
    sentences = [f"left out: column {name} of {_num(num, 'row')}" for name, num in columns.items()]
    if num := facts.get("answers_left_out"):
        sentences.append(f"left out: {_num(num, 'message')} of an assistant; later turns carry the model's own answers")
    if num := facts.get("multiturn_mended"):
        sentences.append(f"multiturn mended in {_num(num, 'row')}: it did not say whether there is more than one turn")
    return sentences


def _num(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def _verdict(checked: "Checked") -> str:
    if checked.differences:
        num = len({question_id for question_id, _ in checked.differences})
        return f"{_num(num, 'row')} {'differs' if num == 1 else 'differ'}"
    return "ok" if checked.same_order else "ok, in another order"


def _json(checked: "list[Checked]") -> str:
    import orjson

    listed = [
        {
            "config": each.config,
            "num_rows": each.num_rows,
            "manifest_sha256": each.sha256,
            "ok": each.ok,
            "same_order": each.same_order,
            "differences": [{"question_id": name, "what": what} for name, what in each.differences],
        }
        for each in checked
    ]
    return orjson.dumps(listed, option=orjson.OPT_INDENT_2).decode()
