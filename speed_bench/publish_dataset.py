"""An edition as a dataset of the Hugging Face Hub: `load_dataset("org/name", "qualitative")` for everyone.

One repository per edition, one commit per change. The repository is ours if it holds the manifest of that edition.
"""

import hashlib
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from speed_bench import hub
from speed_bench.data.editions import read_manifest
from speed_bench.data.release import Release
from speed_bench.errors import ConfigError, DataError, HubError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

MANIFEST: Final = "manifest.json"
_DATA: Final = re.compile(r"([^/]+)/test-[^/]*\.parquet")


def checked_repo(repo_id: str) -> str:
    """A repository's name, `owner/name`. Raises ConfigError for one that the Hub cannot hold, or that hides the data.

    >>> checked_repo("my-org/speed-bench-open")
    'my-org/speed-bench-open'
    """
    part = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?"
    if not re.fullmatch(f"{part}/{part}", repo_id) or re.search(r"--|\.\.|\.git$", repo_id):
        raise ConfigError(
            f"--repo '{repo_id}' is not the name of a dataset on the Hub: OWNER/NAME, each of letters, digits and "
            "single '-', '_', '.' between them"
        )
    return repo_id


def page(repo_id: str) -> str:
    """The address of the dataset, at the endpoint of the environment."""
    return hub.page("dataset", repo_id)


def listing(release: Release, repo_id: str) -> list[str]:
    """What goes where: the files with size and sha256, then how many rows of each source with text and without."""
    lines = [f"edition {release.edition} {release.version} -> {page(repo_id)}"]
    for name, path in release.files.items():
        content = path.read_bytes()
        lines.append(f"  {name:<42} {len(content):>11,} bytes  {hashlib.sha256(content).hexdigest()}")
    lines.append(f"  {'config':<16} {'source':<25} {'with text':>11} {'masked':>8}")
    for share in release.shares:
        source = share.source or "(none named)"
        lines.append(f"  {share.config:<16} {source:<25} {share.num_with_text:>11,} {share.num_masked:>8,}")
    return lines


def publish(release: Release, repo_id: str, *, private: bool = False) -> hub.Change:
    """Make or update the repository: what changed goes up in one commit, nothing does if nothing changed.

    `private` is about a repository that does not exist yet. Raises HubError before anything is written if the Hub
    cannot be written to, if the repository holds something else, or is public and was to be private.
    """
    api = hub.ready(repo_id)
    revision = _revision(api, repo_id, must_be_private=private)
    held = hub.held_files(api, "dataset", repo_id, revision) if revision else {}
    if held is None:
        raise HubError(f"{page(repo_id)} was deleted while it was read; run this again")
    ours = _require_ours(api, release, repo_id, revision, held)
    changed = [name for name, path in release.files.items() if not hub.is_held(path.read_bytes(), held.get(name))]
    stale = [name for name in held if _is_stale(name, release)]
    if not changed and not stale:
        return "unchanged"
    with hub.sentences(f"{page(repo_id)} cannot be written"):
        if revision is None:
            api.create_repo(repo_id, repo_type="dataset", private=private or None)
        _commit(api, release, repo_id, changed, stale, revision)
    return "updated" if ours else "created"


def _commit(
    api: "HfApi", release: Release, repo_id: str, changed: Sequence[str], stale: Sequence[str], revision: str | None
) -> None:
    """One commit, on top of the revision that was looked at: the Hub refuses it if there is a later one."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    api.create_commit(
        repo_id,
        [
            *(CommitOperationAdd(name, str(release.files[name])) for name in changed),
            *(CommitOperationDelete(name) for name in stale),
        ],
        repo_type="dataset",
        commit_message=f"Edition {release.edition} {release.version}: {', '.join(release.configs)}",
        parent_commit=revision,
    )


def _revision(api: "HfApi", repo_id: str, *, must_be_private: bool) -> str | None:
    """The commit that a repository is at; None if there is none of that name."""
    from huggingface_hub.errors import RepositoryNotFoundError

    with hub.sentences(f"{page(repo_id)} cannot be read"):
        try:
            info = api.dataset_info(repo_id)
        except RepositoryNotFoundError:
            return None
        if must_be_private and info.private is False:
            raise HubError(
                f"{page(repo_id)} is public; make it private on its settings page first, or leave --private out"
            )
        return info.sha


def _require_ours(api: "HfApi", release: Release, repo_id: str, revision: str | None, held: Mapping[str, str]) -> bool:
    """Whether the repository holds this edition already. Raises HubError where it holds something else."""
    if MANIFEST not in held:
        if held.keys() - hub.MADE_BY_THE_HUB:
            raise HubError(
                f"{page(repo_id)} holds {', '.join(sorted(held)[:3])} but no {MANIFEST}, so it is not ours to replace; "
                "rename or delete that repository, or choose another --repo"
            )
        return False
    manifest = _manifest_of(api, repo_id, revision)
    if manifest is None or manifest["edition"] != release.edition:
        what = f"the edition {manifest['edition']!r:.80}" if manifest else f"a {MANIFEST} that is not of an edition"
        raise HubError(f"{page(repo_id)} holds {what}, not {release.edition}; choose another --repo")
    if orphans := sorted(manifest["configs"].keys() - set(release.configs)):
        raise HubError(
            f"{page(repo_id)} also holds the config(s) {', '.join(orphans)}, which the new manifest would not name; "
            "publish them together, or delete them there first"
        )
    return True


def _manifest_of(api: "HfApi", repo_id: str, revision: str | None) -> dict[str, Any] | None:
    with tempfile.TemporaryDirectory() as place, hub.sentences(f"{page(repo_id)} cannot be read"):
        api.hf_hub_download(repo_id, MANIFEST, repo_type="dataset", revision=revision, local_dir=place)
        try:
            return read_manifest(Path(place))
        except DataError:
            return None


def _is_stale(name: str, release: Release) -> bool:
    """Whether a file that is there would be loaded with the rows of a config, but is not of this release."""
    found = _DATA.fullmatch(name)
    return found is not None and found[1] in release.configs and name not in release.files
