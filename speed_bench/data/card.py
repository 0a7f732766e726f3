"""The README.md of an edition: a dataset card of the Hub, filled from the manifest alone.

The words are in the templates of `cards/`, the YAML is made here. What a manifest says is data of somebody else: it
reaches the page as one printable line without meaning in Markdown, and it is never read as a template.
"""

import functools
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

from speed_bench.data.languages import languages
from speed_bench.data.published import MEAN_TOKENS
from speed_bench.data.schema import CATEGORIES, PLACEHOLDER, require_name

if TYPE_CHECKING:
    import jinja2

HUB_LICENCES: Final = (
    "apache-2.0 mit bsd-2-clause bsd-3-clause cc0-1.0 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-4.0 "
    "cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-nc-nd-4.0 odc-by odbl pddl gpl-3.0 lgpl-3.0 mpl-2.0 unlicense"
)
"""Ids that the Hub knows, among those that prompts come under; any other licence is `other` with a name and a link."""

GATED_PROMPT: Final = (
    "Some prompts of this benchmark come from sources that do not allow their text to be passed on. Those rows hold a "
    "placeholder and a hash. By going on you agree to fetch their text from the sources, under the sources' own terms, "
    "not to publish it, and not to train on it."
)
_FEATURES: Final = (
    *({"name": name, "dtype": "string"} for name in ("question_id", "category", "sub_category")),
    {"name": "turns", "sequence": "string"},  # what datasets 3, 4 and 5 all read
    *({"name": name, "dtype": "string"} for name in ("source", "src_id", "difficulty")),
    {"name": "multiturn", "dtype": "bool"},
)
_SIZES: Final = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_TOTALS: Final = (
    *("num_rows", "num_multiturn", "num_turns", "num_tokens_o200k", "min_tokens_o200k", "max_tokens_o200k"),
    *("sources", "sub_categories", "difficulties"),
)
"""What a manifest may say of a category."""
_SHOWN: Final = 12
"""Of many kinds, the most frequent ones are listed, the others counted."""
_FEW: Final = 6
"""Counts that fit a cell."""


def card(manifest: Mapping[str, Any], repo_id: str | None = None) -> str:
    """The card of an edition's folder, or of the repository of the Hub that it is going to.

    A manifest may lack anything but `edition`, `version` and `configs`: what it does not say is not on the card.
    Raises ConfigError for the name of a config that cannot be a folder's.
    """
    return _filled("dataset.md.j2", manifest, repo_id)


def licence_note(manifest: Mapping[str, Any], repo_id: str | None = None) -> str:
    """The LICENSE.md of a published edition: which licence covers what, source by source."""
    return _filled("licence.md.j2", manifest, repo_id)


def _filled(template: str, manifest: Mapping[str, Any], repo_id: str | None) -> str:
    for name in manifest["configs"]:
        require_name(name)
    configs = {name: _config(name, _mapping(each)) for name, each in manifest["configs"].items()}
    sources = _sources(manifest, configs)
    facts = {
        "edition": manifest["edition"],
        "version": manifest["version"],
        "kind": str(manifest["edition"]).partition(":")[0],
        "licence": manifest.get("licence"),
        "licence_url": _licence_url(manifest.get("licence")),
        "redistributable": manifest.get("redistributable") is True,
        "origin": manifest.get("source"),
        "tokenizer": manifest.get("tokenizer"),
        "builder": _lines(manifest.get("builder")),
        "configs": configs,
        "num_masked": sum(each["num_masked"] for each in configs.values()),
        "sources": sources,
        "repo_id": repo_id,
        "with_selection": any("selection" in each["tables"] for each in configs.values()),
        "with_buckets": any(name.startswith("throughput_") for name in configs),
        "placeholder": PLACEHOLDER,
        "front": "",
    }
    facts["default"] = next((name for name in configs if name == "qualitative"), next(iter(configs), ""))
    facts["front"] = _front_matter(manifest, facts)
    return _environment().get_template(template).render(facts)


def _front_matter(manifest: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """The YAML that the Hub, its viewer and `load_dataset` of datasets 3, 4 and 5 read."""
    import yaml

    configs: Mapping[str, Any] = facts["configs"]
    num_rows = sum(each["num_rows"] for each in configs.values())
    front: dict[str, Any] = {
        "pretty_name": plain(f"SPEED-Bench, edition {manifest['edition']} {manifest['version']}"),
        **_licence(manifest.get("licence")),
        "language": languages(each for config in configs.values() for each in config["languages"]),
        "task_categories": ["text-generation"],
        "size_categories": [next((size for limit, size in _SIZES if num_rows < limit), "n>1M")],
        "tags": ["speculative-decoding", "benchmark", "inference", "llm-serving"],
    }
    if facts["num_masked"] or not facts["redistributable"]:
        front["extra_gated_prompt"] = GATED_PROMPT
    front["configs"] = [
        {
            "config_name": name,
            **({"default": True} if name == facts["default"] else {}),
            "data_files": [{"split": "test", "path": f"{name}/test-*.parquet"}],
        }
        for name in configs
    ]
    front["dataset_info"] = [{"config_name": name, "features": [dict(each) for each in _FEATURES]} for name in configs]
    return yaml.safe_dump(front, sort_keys=False, allow_unicode=True, width=4096)


def _licence(licence: Any) -> dict[str, str]:
    """The Hub's fields of a licence.

    >>> _licence("CC-BY-4.0")
    {'license': 'cc-by-4.0'}
    >>> _licence("NVIDIA Evaluation Dataset License")["license_name"]
    'nvidia-evaluation-dataset-license'
    """
    name = re.sub(r"[^a-z0-9.]+", "-", plain(licence).lower()).strip("-.")
    if name in HUB_LICENCES.split():
        return {"license": name}
    return {"license": "other", "license_name": name[:64] or "unknown", "license_link": "LICENSE.md"}


def _licence_url(licence: Any) -> str | None:
    """Where the words of a licence are, for those that the Hub knows."""
    name = plain(licence)
    return f"https://spdx.org/licenses/{name}.html" if name.lower() in HUB_LICENCES.split() else None


def _config(name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    """What the templates say of a config."""
    rows = [_mapping(each) for each in _mapping(entry.get("rows")).values()]
    nothing = dict.fromkeys(_TOTALS)
    categories = {key: {**nothing, **_mapping(each)} for key, each in _mapping(entry.get("categories")).items()}
    about = _mapping(entry.get("about"))
    return {
        "name": name,
        "num_rows": len(rows),
        "num_masked": sum(each.get("masked") is True for each in rows),
        "num_turns": entry.get("num_turns"),
        "num_tokens": entry.get("num_tokens_o200k"),
        "num_multiturn": _sum(each["num_multiturn"] for each in categories.values()),
        "categories": categories,
        "published": MEAN_TOKENS if name == "qualitative" and set(categories) <= set(CATEGORIES) else {},
        "languages": list(_mapping(categories.get("multilingual", {}).get("sub_categories"))),
        "row_sources": [(each.get("source_id"), each.get("masked") is True) for each in rows],
        "tables": {key: _table(each) for key, each in about.items() if _is_table(each)},
        "facts": [
            f"{key.replace('_', ' ')}: {'; '.join(_lines(each))}"
            for key, each in about.items()
            if each and not _is_table(each)
        ],
    }


def _sources(manifest: Mapping[str, Any], configs: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The sources of the manifest, with how many of its rows are here with their text and how many without."""
    counted: dict[Any, list[int]] = {}
    for config in configs.values():
        for source, masked in config["row_sources"]:
            counted.setdefault(source, [0, 0])[masked] += 1
    said = dict.fromkeys(("name", "url", "revision", "licence", "terms", "redistributable"))
    sources = []
    for source, each in _mapping(manifest.get("sources")).items():
        with_text, masked = counted.get(source, (0, 0))
        sources.append({**said, **_mapping(each), "id": source, "with_text": with_text, "masked": masked})
    return sources


def _is_table(value: Any) -> bool:
    """Whether something is said of several things alike, such as of each category."""
    return isinstance(value, Mapping) and bool(value) and all(isinstance(each, Mapping) for each in value.values())


def _table(value: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Its rows and columns, in the order in which they first appear; what fits no cell is only named."""
    columns = list(dict.fromkeys(column for row in value.values() for column in row))
    rows = {name: {column: _in_cell(row.get(column)) for column in columns} for name, row in value.items()}
    said = {column: [(row.get(column), rows[name][column]) for name, row in value.items()] for column in columns}
    fits = {column: all(cell is not None or not raw for raw, cell in said[column]) for column in columns}
    shown = [column for column in columns if fits[column] and any(cell is not None for _, cell in said[column])]
    return {"columns": shown, "rows": rows, "left_out": [column for column in columns if column not in shown]}


def _in_cell(value: Any) -> Any:
    """A number or text as it is; of several what a reader looks for, or None.

    >>> _in_cell(["id of one", "id of the other", 0.79]), _in_cell({"rows": 80, "mean_similarity": 0.22})
    (0.79, 0.22)
    >>> _in_cell({"continue": 256, "write": 256}), _in_cell([])
    ('continue 256, write 256', None)
    """
    if isinstance(value, Mapping):
        few = 0 < len(value) <= _FEW and all(isinstance(each, int) for each in value.values())
        return value.get("mean_similarity", ", ".join(f"{key} {each}" for key, each in value.items()) if few else None)
    if isinstance(value, list):
        return value[-1] if value and isinstance(value[-1], float) else None
    return value


def _lines(value: Any) -> list[str]:
    """Something free in form, one line per item."""
    if isinstance(value, Mapping):
        return [f"{key}: {plain(each)}" for key, each in value.items()]
    return [plain(each) for each in value] if isinstance(value, list) else [] if value is None else [plain(value)]


def plain(value: Any) -> str:
    """Any value on one printable line.

    >>> plain("two\\n---\\nlines"), plain(None), plain(0.123456789), plain({"a": [1]})
    ('two --- lines', '', '0.12346', '{"a":[1]}')
    """
    if value is None or isinstance(value, bool):
        return {None: "", True: "yes", False: "no"}[value]
    if isinstance(value, float):
        return f"{value:.5g}"
    text = value if isinstance(value, str) else orjson.dumps(value, default=str).decode()
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())


def text(value: Any) -> str:
    """Any value as Markdown that says it, in a table, too.

    >>> text("a|b `c` <d> {{ e }}")
    'a\\\\|b \\\\`c\\\\` &lt;d&gt; {{ e }}'
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    said = plain(value).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    said = re.sub(r"[\\`*\[\]|~$#!]|(?<!\w)_|_(?!\w)", r"\\\g<0>", said)  # `_` inside a word means nothing
    said = re.sub(r"^[-+=](?=[-+= ]|$)", r"\\\g<0>", said)  # a list, or the line under a heading
    return re.sub(r"^(\d+)([.)])(?= |$)", r"\1\\\2", said) or "–"


def code(value: Any) -> str:
    """A name as Markdown code, in a table, too."""
    return f"`{plain(value).replace('`', chr(39)).replace('|', '¦')}`"


def link(url: Any, said: Any) -> str:
    """A link, where the address is one of the web without signs that end it; else what it would say."""
    safe = isinstance(url, str) and re.fullmatch(r"https?://[\w.~:/?#@!&+,;=%-]+", url, re.ASCII)
    return f"[{text(said)}]({url})" if safe else text(said)


def counts(value: Any) -> str:
    """How many are of which kind, the most frequent first: `python 27, go 13`."""
    items = sorted(_mapping(value).items(), key=lambda each: -each[1] if isinstance(each[1], int) else 0)
    said = [f"{text(name)} {text(count)}" for name, count in items[:_SHOWN]]
    return ", ".join([*said, f"and {len(items) - _SHOWN} more"] if len(items) > _SHOWN else said) or "–"


def ratio(whole: Any, number: Any, pattern: str) -> str:
    """A mean or a share, where both are numbers.

    >>> ratio(21, 88, "{:.0%}"), ratio(None, 88, "{:.0%}")
    ('24%', '–')
    """
    if isinstance(whole, int) and isinstance(number, int) and number > 0:
        return pattern.format(whole / number)
    return "–"


def heading(column: Any) -> str:
    """A key as the heading of a column."""
    return text(plain(column).replace("_", " "))


def _sum(values: Iterable[Any]) -> int | None:
    known = [each for each in values if isinstance(each, int)]
    return sum(known) if known else None


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}


@functools.cache
def _environment() -> "jinja2.Environment":
    import jinja2

    packaged = Path(__file__).parent.parent / "card_templates"
    folder = packaged if packaged.is_dir() else Path(__file__).parent.parent.parent / "cards"
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701 - Markdown, not HTML: the filters escape
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"text": text, "code": code, "plain": plain, "counts": counts}
    environment.globals |= {"link": link, "ratio": ratio, "heading": heading}
    return environment
