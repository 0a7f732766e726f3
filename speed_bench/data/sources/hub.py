"""Datasets and files of the Hugging Face Hub at pinned revisions, and whether access to them was granted.

Rows come from `datasets.load_dataset`, in its order. It is given the files of the split alone, because it downloads all
splits to give one, and an empty cache of its own, because offline it takes any revision that its cache holds for the
one that was asked for. The files themselves are downloaded once, into the cache of huggingface_hub.
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from speed_bench.data.sources.source import HubDataset, HubFile, Source
from speed_bench.errors import ConfigError, DataError
from speed_bench.models import sha256_of

TIMEOUT_S: Final = 10.0
"""How long the Hub may take to say whether a file is there, before anything is downloaded from it."""


def require_access(source: Source) -> None:
    """Raise DataError, which says how to get access, unless the Hub lets this account read a gated source."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError

    try:
        HfApi().auth_check(source.repo, repo_type="dataset")
    except (GatedRepoError, RepositoryNotFoundError) as error:
        raise DataError(f"{source.name} is gated, and access to it was not granted here: {source.access}") from error
    except OfflineModeIsEnabled as error:
        raise DataError(
            f"{source.name} is gated, and HF_HUB_OFFLINE forbids to ask whether access was granted; unset it, or give "
            "a mirror that has the source with --mirror"
        ) from error
    except HfHubHTTPError as error:
        if error.response.status_code in (401, 403):
            raise DataError(f"{source.name} is gated, and access was not granted here: {source.access}") from error
        raise DataError(f"whether access to {source.name} was granted cannot be asked: {_reason(error)}") from error
    except Exception as error:
        raise DataError(f"whether access to {source.name} was granted cannot be asked: {_reason(error)}") from error


def download(file: HubFile, max_bytes: int) -> Path:
    """A file of a dataset repository, from the cache of huggingface_hub or the Hub, checked against the Hub's hash."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    cached = try_to_load_from_cache(file.repo, file.name, repo_type="dataset", revision=file.revision)
    if isinstance(cached, str):
        path = Path(cached)
    else:
        where = f"{file.name} of {file.repo} at {file.revision[:8]}"
        with _sentences(where):
            size = _size(file.repo, file.name, file.revision)
        if size is not None and size > max_bytes:
            raise DataError(f"{where} has {size:,} bytes, more than the {max_bytes:,} that are taken from the Hub")
        with _sentences(where):
            path = Path(hf_hub_download(file.repo, file.name, repo_type="dataset", revision=file.revision))
    _require_intact(path)
    return path


def rows(dataset: HubDataset, config: str, scratch: Path, max_bytes: int) -> Iterator[Mapping[str, Any]]:
    """The rows of a split in order, without the columns to drop. Raises DataError for whatever goes wrong.

    `scratch` is an empty folder that is not needed afterwards.
    """
    where = f"{config}/{dataset.split} of {dataset.repo} at {dataset.revision[:8]}"
    with _sentences(where):
        _size(dataset.repo, "README.md", dataset.revision, required=False)
    try:
        from datasets import load_dataset, load_dataset_builder
    except ModuleNotFoundError as error:
        raise ConfigError(f"{dataset.repo} is read by datasets; pip install 'speed-bench[data]'") from error
    with _sentences(where):
        name = None if config == "default" else config
        builder = load_dataset_builder(dataset.repo, name, revision=dataset.revision, cache_dir=str(scratch))
        files = [_inside(address, dataset) for address in (builder.config.data_files or {}).get(dataset.split, ())]
        if not files:
            raise DataError(f"{where} cannot be fetched: the dataset has no such split")
        num_bytes = sum(_size(dataset.repo, file, dataset.revision) or 0 for file in files)
        if num_bytes > max_bytes:
            raise DataError(f"{where} has {num_bytes:,} bytes, more than the {max_bytes:,} that are taken from the Hub")
        loaded = load_dataset(
            dataset.repo,
            data_files={dataset.split: files},
            split=dataset.split,
            revision=dataset.revision,
            cache_dir=str(scratch),
            verification_mode="no_checks",  # the card counts the rows of all splits
        )
        yield from loaded.remove_columns([each for each in dataset.drop if each in loaded.column_names])


def _inside(address: str, dataset: HubDataset) -> str:
    """A file's path in the repository, given its address. Raises DataError where it is in another one."""
    path = address.removeprefix(f"hf://datasets/{dataset.repo}@{dataset.revision}/")
    if path == address:
        raise DataError(f"{dataset.repo} at {dataset.revision} refers to {address}, which is not a file of its own")
    return path


def _size(repo: str, name: str, revision: str, *, required: bool = True) -> int | None:
    """Bytes of a file, asked of the Hub, which has to answer soon: the libraries ask for minutes."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError

    try:
        url = hf_hub_url(repo, name, repo_type="dataset", revision=revision)
        return get_hf_file_metadata(url, timeout=TIMEOUT_S).size
    except EntryNotFoundError:
        if required:
            raise
        return None


def _require_intact(path: Path) -> None:
    """The cache names a file after what the Hub says of it: its sha256 if it is large, else its git id."""
    name = path.resolve().name
    if len(name) == 64:
        intact = sha256_of(path) == name
    elif len(name) == 40:
        content = path.read_bytes()
        intact = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest() == name
    else:
        return  # a cache without links, as on Windows: only the size was checked, by the library
    if not intact:
        raise DataError(f"{path} is not what the Hub gave; delete {path.resolve()} to have it fetched again")


@contextmanager
def _sentences(where: str) -> Iterator[None]:
    """Every error of the two libraries as a DataError: they have no public base in common."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{where} cannot be fetched: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """What to say of a failure, and what to do."""
    from huggingface_hub import errors

    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.GatedRepoError) or status in (401, 403):
        return "access must be granted on its page; then run `hf auth login`"
    if isinstance(error, errors.RepositoryNotFoundError):
        return "the Hub has no such dataset, or shows it to others only"
    if isinstance(error, errors.RevisionNotFoundError):
        return "the Hub has no such revision of it any more"
    if isinstance(error, errors.EntryNotFoundError):
        return "the Hub does not have that file at this revision"
    if isinstance(error, errors.OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set, and it was not fetched before"
    if status:
        return f"the Hub answered {status}"
    causes: list[BaseException] = [error]
    while causes[-1].__cause__ is not None:
        causes.append(causes[-1].__cause__)
    said = " ".join(str(causes[-1]).split())[:300].rstrip(". ") or type(causes[-1]).__name__
    network = any(isinstance(each, ConnectionError | TimeoutError) or _of_http(each) for each in causes)
    return f"{said}; is the Hub within reach?" if network else said


def _of_http(error: BaseException) -> bool:
    """Whether the HTTP client of huggingface_hub raised it; which one that is depends on the version."""
    return any(kind.__module__.partition(".")[0].startswith("http") for kind in type(error).__mro__)
