"""Our metric modules as Hugging Face Spaces, so that `evaluate.load("org/speed_bench_acceptance")` works for everyone.

One Space per module, one commit per change. The token is that of the environment or of `hf auth login`.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from speed_bench.errors import ConfigError, HubError
from speed_bench.metric_files import MetricModule
from speed_bench.models import hub_answers

if TYPE_CHECKING:
    from huggingface_hub import HfApi

Change = Literal["created", "updated", "unchanged"]

MADE_BY_THE_HUB: Final = {".gitattributes", "README.md"}
"""What a new Space holds before anything is committed to it."""


@dataclass(frozen=True, slots=True)
class Space:
    """Where a module goes."""

    repo_id: str
    module: MetricModule

    @property
    def url(self) -> str:
        """Of its page, at the endpoint of the environment."""
        from huggingface_hub import constants

        return f"{constants.ENDPOINT}/spaces/{self.repo_id}"


def spaces(org: str, modules: Sequence[MetricModule]) -> tuple[Space, ...]:
    """The Spaces of an organization or a user. Raises ConfigError for a name that the Hub cannot hold."""
    if not re.fullmatch(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?", org) or re.search(r"--|\.\.", org):
        raise ConfigError(
            f"--repo '{org}' is not the name of an organization or a user on the Hub: letters, digits and single "
            "'-', '_', '.' between them; the Spaces themselves are named after the modules"
        )
    return tuple(Space(f"{org}/{module.name}", module) for module in modules)


def changed_files(files: Mapping[str, bytes], held: Mapping[str, str]) -> list[str]:
    """Names of the files that a repository does not hold yet, given the git ids of those it holds.

    >>> changed_files({"a": b"", "b": b"new", "c": b""}, {"a": git_id(b""), "b": git_id(b"old")})
    ['b', 'c']
    """
    return [name for name, content in files.items() if held.get(name) != git_id(content)]


def git_id(content: bytes) -> str:
    """What git calls a file with this content.

    >>> git_id(b"")
    'e69de29bb2d1d6434b8b29ae775ad8c2e48c5391'
    """
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def listing(targets: Sequence[Space]) -> list[str]:
    """What would go where: a line per Space, then one per file with its size and the start of its sha256."""
    lines = []
    for space in targets:
        lines.append(space.url)
        for name, content in space.module.files.items():
            lines.append(f"  {name:<26} {len(content):>6} bytes  {hashlib.sha256(content).hexdigest()[:12]}")
    return [*lines, "nothing was sent"]


def publish(targets: Sequence[Space]) -> Iterator[tuple[Space, Change]]:
    """Make or update the Spaces, one after the other; what is done stays done if a later one fails.

    Raises HubError before anything is written if there is no token, if the Hub does not answer or does not take the
    token, or if one of the names is taken by a Space without the module.
    """
    from huggingface_hub import HfApi, constants, get_token

    if constants.HF_HUB_OFFLINE:
        raise HubError("HF_HUB_OFFLINE is set; unset it to publish")
    if get_token() is None:
        raise HubError("no token of the Hugging Face Hub; run `hf auth login`, or set HF_TOKEN")
    if not hub_answers(targets[0].repo_id, "README.md"):
        raise HubError(f"the Hub at {constants.ENDPOINT} does not answer; --dry-run needs no network")
    api = HfApi()
    with _sentences("the token cannot be checked"):
        api.whoami()
    held = [_files_of(api, space) for space in targets]
    for space, files in zip(targets, held, strict=True):
        if files is not None and f"{space.module.name}.py" not in files and files.keys() - MADE_BY_THE_HUB:
            raise HubError(
                f"{space.url} holds {', '.join(sorted(files)[:3])} but not {space.module.name}.py, so it is not ours "
                "to replace; rename or delete that Space, or choose another --repo"
            )
    for space, files in zip(targets, held, strict=True):
        yield space, _bring_up_to_date(api, space, files)


def _files_of(api: "HfApi", space: Space) -> dict[str, str] | None:
    """Names and git ids of what a Space holds; None if there is no such Space."""
    from huggingface_hub.errors import RepositoryNotFoundError
    from huggingface_hub.hf_api import RepoFile

    with _sentences(f"{space.url} cannot be read"):
        try:
            tree = api.list_repo_tree(space.repo_id, repo_type="space", recursive=True)
            return {entry.path: entry.blob_id for entry in tree if isinstance(entry, RepoFile)}
        except RepositoryNotFoundError:
            return None


def _bring_up_to_date(api: "HfApi", space: Space, held: Mapping[str, str] | None) -> Change:
    from huggingface_hub import CommitOperationAdd

    files = space.module.files
    changed = changed_files(files, held or {})
    if not changed:
        return "unchanged"
    with _sentences(f"{space.url} cannot be written"):
        if held is None:
            api.create_repo(space.repo_id, repo_type="space", space_sdk="gradio", exist_ok=True)
        api.create_commit(
            space.repo_id,
            [CommitOperationAdd(name, files[name]) for name in changed],
            repo_type="space",
            commit_message=f"{space.module.name} {space.module.sha256[:12]}",
        )
    return "updated" if held and f"{space.module.name}.py" in held else "created"


@contextmanager
def _sentences(what: str) -> Iterator[None]:
    """Every error of the library as a HubError: those of its HTTP client have no public base in common."""
    try:
        yield
    except Exception as error:
        raise HubError(f"{what}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """What to say of a failure, and what to do."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    said = " ".join(str(getattr(error, "server_message", None) or error or type(error).__name__).split()).rstrip(".")
    if status == 401:
        return "the Hub does not accept the token; run `hf auth login`, or set HF_TOKEN to a valid one"
    if status == 402:
        return f"the Hub asks for payment ({said}); gradio Spaces need a subscription of their owner"
    if status == 403:
        return f"the token may not do this ({said}); it needs the write role there"
    return f"the Hub answered {status}, {said}" if status else said
