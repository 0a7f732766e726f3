"""Our metric modules as Hugging Face Spaces, so that `evaluate.load("org/speed_bench_acceptance")` works for everyone.

One Space per module, one commit per change. The token is that of the environment or of `hf auth login`.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from speed_bench import hub
from speed_bench.errors import ConfigError, HubError
from speed_bench.metric_files import MetricModule

if TYPE_CHECKING:
    from huggingface_hub import HfApi


@dataclass(frozen=True, slots=True)
class Space:
    """Where a module goes."""

    repo_id: str
    module: MetricModule

    @property
    def url(self) -> str:
        """Of its page, at the endpoint of the environment."""
        return hub.page("space", self.repo_id)


def spaces(org: str, modules: Sequence[MetricModule]) -> tuple[Space, ...]:
    """The Spaces of an organization or a user. Raises ConfigError for a name that the Hub cannot hold."""
    if not re.fullmatch(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?", org) or re.search(r"--|\.\.", org):
        raise ConfigError(
            f"--repo '{org}' is not the name of an organization or a user on the Hub: letters, digits and single "
            "'-', '_', '.' between them; the Spaces themselves are named after the modules"
        )
    return tuple(Space(f"{org}/{module.name}", module) for module in modules)


def listing(targets: Sequence[Space]) -> list[str]:
    """What would go where: a line per Space, then one per file with its size and the start of its sha256."""
    lines = []
    for space in targets:
        lines.append(space.url)
        for name, content in space.module.files.items():
            lines.append(f"  {name:<26} {len(content):>6} bytes  {hashlib.sha256(content).hexdigest()[:12]}")
    return [*lines, "nothing was sent"]


def publish(targets: Sequence[Space]) -> Iterator[tuple[Space, hub.Change]]:
    """Make or update the Spaces, one after the other; what is done stays done if a later one fails.

    Raises HubError before anything is written if there is no token, if the Hub does not answer or does not take the
    token, or if one of the names is taken by a Space without the module.
    """
    api = hub.ready(targets[0].repo_id)
    held = [hub.held_files(api, "space", space.repo_id) for space in targets]
    for space, files in zip(targets, held, strict=True):
        if files is not None and f"{space.module.name}.py" not in files and files.keys() - hub.MADE_BY_THE_HUB:
            raise HubError(
                f"{space.url} holds {', '.join(sorted(files)[:3])} but not {space.module.name}.py, so it is not ours "
                "to replace; rename or delete that Space, or choose another --repo"
            )
    for space, files in zip(targets, held, strict=True):
        yield space, _bring_up_to_date(api, space, files)


def _bring_up_to_date(api: "HfApi", space: Space, held: Mapping[str, str] | None) -> hub.Change:
    from huggingface_hub import CommitOperationAdd

    files = space.module.files
    changed = hub.changed_files(files, held or {})
    if not changed:
        return "unchanged"
    with hub.sentences(f"{space.url} cannot be written"):
        if held is None:
            api.create_repo(space.repo_id, repo_type="space", space_sdk="gradio", exist_ok=True)
        api.create_commit(
            space.repo_id,
            [CommitOperationAdd(name, files[name]) for name in changed],
            repo_type="space",
            commit_message=f"{space.module.name} {space.module.sha256[:12]}",
        )
    return "updated" if held and f"{space.module.name}.py" in held else "created"
