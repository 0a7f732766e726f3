"""What publishing anything to the Hugging Face Hub has in common: asking before writing, sentences for errors."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Literal

from speed_bench.errors import HubError
from speed_bench.models import hub_answers

if TYPE_CHECKING:
    from huggingface_hub import HfApi

Change = Literal["created", "updated", "unchanged"]
Kind = Literal["dataset", "space"]

MADE_BY_THE_HUB: Final = {".gitattributes", "README.md"}
"""What a new repository holds before anything is committed to it."""


def page(kind: Kind, repo_id: str) -> str:
    """The address of a repository, at the endpoint of the environment."""
    from huggingface_hub import constants

    return f"{constants.ENDPOINT}/{kind}s/{repo_id}"


def ready(repo_id: str) -> "HfApi":
    """The library's client. Raises HubError where nothing could be written: no token, no answer, a wrong token."""
    from huggingface_hub import HfApi, constants, get_token

    if constants.HF_HUB_OFFLINE:
        raise HubError("HF_HUB_OFFLINE is set; unset it to publish")
    if get_token() is None:
        raise HubError("no token of the Hugging Face Hub; run `hf auth login`, or set HF_TOKEN")
    if not hub_answers(repo_id, "README.md"):
        raise HubError(f"the Hub at {constants.ENDPOINT} does not answer; --dry-run needs no network")
    api = HfApi()
    with sentences("the token cannot be checked"):
        api.whoami()
    return api


def held_files(api: "HfApi", kind: Kind, repo_id: str, revision: str | None = None) -> dict[str, str] | None:
    """What a repository holds, name -> id; None if there is no such repository.

    The id is that of git, or the sha256 for a file that the Hub keeps outside git, as it does with Parquet.
    """
    from huggingface_hub.errors import RepositoryNotFoundError
    from huggingface_hub.hf_api import RepoFile

    with sentences(f"{page(kind, repo_id)} cannot be read"):
        try:
            tree = api.list_repo_tree(repo_id, repo_type=kind, recursive=True, revision=revision)
            files = [entry for entry in tree if isinstance(entry, RepoFile)]
        except RepositoryNotFoundError:
            return None
    return {file.path: file.lfs.sha256 if file.lfs else file.blob_id for file in files}


def changed_files(files: Mapping[str, bytes], held: Mapping[str, str]) -> list[str]:
    """Names of the files that a repository does not hold yet, given the ids of those it holds.

    >>> changed_files({"a": b"", "b": b"new", "c": b""}, {"a": git_id(b""), "b": git_id(b"old")})
    ['b', 'c']
    """
    return [name for name, content in files.items() if not is_held(content, held.get(name))]


def is_held(content: bytes, held: str | None) -> bool:
    """Whether an id is that of this content: git's, or the sha256."""
    return held is not None and held in (git_id(content), hashlib.sha256(content).hexdigest())


def git_id(content: bytes) -> str:
    """What git calls a file with this content.

    >>> git_id(b"")
    'e69de29bb2d1d6434b8b29ae775ad8c2e48c5391'
    """
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


@contextmanager
def sentences(what: str) -> Iterator[None]:
    """Every error of the library as a HubError: those of its HTTP client have no public base in common."""
    try:
        yield
    except HubError:
        raise
    except Exception as error:
        raise HubError(f"{what}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """What to say of a failure, and what to do."""
    if type(error) is RuntimeError and isinstance(error.__cause__, Exception):  # what the library wraps an upload's in
        error = error.__cause__
    status = getattr(getattr(error, "response", None), "status_code", None)
    said = " ".join(str(getattr(error, "server_message", None) or error or type(error).__name__).split()).rstrip(".")
    if status == 401:
        return "the Hub does not accept the token; run `hf auth login`, or set HF_TOKEN to a valid one"
    if status == 402:
        return f"the Hub asks for payment ({said}); gradio Spaces need a subscription of their owner"
    if status == 403:
        return f"the token may not do this ({said}); it needs the write role there"
    if status == 412:
        return "somebody else committed to it meanwhile; run this again"
    return f"the Hub answered {status}, {said}" if status else said
