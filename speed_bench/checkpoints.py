"""Models as Hugging Face repositories or folders: which one, and how it is told apart.

The engine reads them, not we; what is recorded is what a reader needs to have the same one.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from speed_bench.errors import ModelError
from speed_bench.models import hub_answers

SAMPLE_BYTES: Final = 1 << 20
CHECKPOINT_FORMS: Final = "a folder with config.json, or org/repo[@revision] of the Hugging Face Hub"
_REPOSITORY = re.compile(r"\b[\w.-]+\b/\b[\w.-]+\b(@[\w./-]+)?")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model that an engine was told to load."""

    name: str
    """As the engine is given it: an absolute folder, or a repository."""
    revision: str | None
    """The commit, of a repository, where it could be found out; else as the user gave it."""
    sampled_sha256: str | None
    """Of a folder: over names, sizes and the first and last MiB of its files; None for a repository."""
    num_bytes: int | None


def split_revision(name: str) -> tuple[str, str | None]:
    """Repository and revision, or a folder and None.

    >>> split_revision("org/repo@v1"), split_revision("org/repo")
    (('org/repo', 'v1'), ('org/repo', None))
    """
    if Path(name).is_dir():
        return name, None
    repository, _, revision = name.partition("@")
    return repository, revision or None


def find_checkpoint(name: str) -> Checkpoint:
    """What a model name stands for. Raises ModelError if it is no folder of a model and no repository's name."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ModelError(f"folder '{name}' holds no config.json, so no model; give {CHECKPOINT_FORMS}")
        files = sorted(path for path in folder.iterdir() if path.is_file())
        num_bytes = sum(path.stat().st_size for path in files)
        return Checkpoint(str(folder.resolve()), None, _sampled(files), num_bytes)
    if folder.is_file() or not _is_repository(name):
        state = "is a file" if folder.is_file() else "is not there"
        raise ModelError(f"model '{name}' {state}; this engine takes {CHECKPOINT_FORMS}")
    repository, revision = split_revision(name)
    return Checkpoint(repository, _commit(repository, revision) or revision, None, None)


def _is_repository(name: str) -> bool:
    """Whether a repository of the Hub can have this name."""
    repository = split_revision(name)[0]
    odd = "--" in repository or ".." in repository or repository.endswith(".git") or len(repository) > 96
    return _REPOSITORY.fullmatch(name) is not None and not odd


def _sampled(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        size = path.stat().st_size
        digest.update(f"{path.name}\0{size}\0".encode())
        with path.open("rb") as file:
            digest.update(file.read(SAMPLE_BYTES))
            file.seek(max(0, size - SAMPLE_BYTES))
            digest.update(file.read(SAMPLE_BYTES))
    return digest.hexdigest()


def _commit(repository: str, revision: str | None) -> str | None:
    """The commit that a revision is now: of the Hub, or else of its local cache."""
    from huggingface_hub import HfApi, try_to_load_from_cache

    if re.fullmatch("[0-9a-f]{40}", revision or ""):
        return revision
    if hub_answers(repository, "config.json", revision):
        try:
            return HfApi().model_info(repository, revision=revision, timeout=5.0).sha
        # Every error of the library: those of its HTTP client have no public base in common.
        except Exception:
            return None
    cached = try_to_load_from_cache(repository, "config.json", revision=revision)
    return Path(cached).parent.name if isinstance(cached, str) else None
