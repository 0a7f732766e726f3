"""Every source of both splits, and three that only `data curate` draws from, by id.

A revision is a full commit id; None where the publisher keeps no versions or none is known, and then the entry says so.

`redistributable` is true only where the licence clearly lets the text itself be passed on. A permissive licence on a
repository does not make it so where the text is somebody else's: transcripts of shows, news, problems of contest sites.
"""

from types import MappingProxyType
from typing import Final

from speed_bench.data.sources.fetched import FETCHED
from speed_bench.data.sources.further import FURTHER
from speed_bench.data.sources.shipped import SHIPPED

SOURCES: Final = MappingProxyType({source.id: source for source in (*FETCHED, *SHIPPED, *FURTHER)})
"""The 22 of the published benchmark in the order of its documentation, then ours."""
