"""The sources of both splits: where each is published, at which revision, under which licence, and what it feeds."""

from speed_bench.data.sources.source import File, HubDataset, HubFile, Source
from speed_bench.data.sources.table import SOURCES

__all__ = ["SOURCES", "File", "HubDataset", "HubFile", "Source"]
