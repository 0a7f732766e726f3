"""What is known of a source before anything of it is read: where it is, which version, whose it is."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class HubDataset:
    """A dataset of the Hub that `datasets.load_dataset` reads; a row's number is its place in what that gives."""

    repo: str
    revision: str
    configs: tuple[str, ...] = ("default",)
    split: str = "test"
    drop: tuple[str, ...] = ()
    """Columns that no prompt needs and that would fill the memory or need another library: test cases, images."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of its files in a library, `<config>/<split>`."""
        return tuple(f"{config}/{self.split}" for config in self.configs)


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a dataset repository of the Hub, at a revision."""

    name: str
    """Its path in the repository, and its name in a library."""
    repo: str
    revision: str
    drop: tuple[str, ...] = ()
    """Fields of its records that no prompt needs."""


@dataclass(frozen=True, slots=True)
class File:
    """A file at an address of the web, which names its revision or says that there is none."""

    name: str
    """Its name in a library."""
    url: str
    sha256: str | None = None
    """Where it is known beforehand."""


@dataclass(frozen=True, slots=True)
class Source:
    """What there is to know of a source before anything of it is read."""

    id: str
    name: str
    url: str
    """What a row's `source` column holds: a page or file, with the revision where there is one."""
    repo: str
    revision: str | None
    licence: str
    terms: str
    """What the licence does and does not cover, in words."""
    redistributable: bool
    """Whether the licence clearly lets the text be passed on."""
    feeds: tuple[str, ...]
    """Categories, and tiers of the throughput configs, that draw from it, in the published or the curated edition."""
    fields: tuple[str, ...]
    """What prompts are made of, by the published names."""
    src_id: str
    """How `src_id` names a record."""
    turns: str
    """How a record becomes turns, in words."""
    origin: HubDataset | tuple[File | HubFile, ...]
    """Where the records are; no files where no revision is known."""
    access: str | None = None
    """How to get access, for a gated source."""
    folder: str = ""
    """The folder of a mirror that holds it; its id if not given."""
    note: str = ""

    def __post_init__(self) -> None:
        if not self.folder:
            object.__setattr__(self, "folder", self.id)

    @property
    def facts(self) -> dict[str, Any]:
        """For the manifest of an edition that has rows of it."""
        told = ("name", "url", "revision", "licence", "terms", "redistributable")
        return {key: getattr(self, key) for key in told}

    @property
    def gated(self) -> bool:
        """Whether the publisher asks for an agreement before the files can be read."""
        return self.access is not None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of its files in a library, as far as they are known beforehand."""
        return self.origin.names if isinstance(self.origin, HubDataset) else tuple(each.name for each in self.origin)
