"""Who is behind a url, what it serves, and under which settings."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import orjson

from speed_bench.engine_config import API_KEY_VARIABLE, api_key
from speed_bench.engines import ENGINES, Dialect, dialect
from speed_bench.engines.http import Connection, Url
from speed_bench.errors import ConfigError, EngineError, Refused, RequestFailed, unknown

MODELS = "/v1/models"
TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class Identity:
    """What a server says of itself."""

    served: str
    """The name under which it serves the model; what requests must call it."""
    owned_by: str
    root: str | None
    """What it loaded, where it tells: a folder of its machine, or a repository."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Effective settings, without paths."""

    @property
    def context_length(self) -> int | None:
        """Tokens of prompt and answer that one stream can hold, where it tells."""
        held = self.settings.get("context_length")
        return held if isinstance(held, int) else None


def detect(url: str) -> str:
    """The name of the engine behind a url. Raises EngineError if nothing answers there, or nobody known."""
    owner = asyncio.run(_owner(Url.parse(url)))
    for name in ENGINES:
        if owner == dialect(name).OWNED_BY:
            return name
    raise EngineError(
        f"the server at {url} does not say which engine it is (its models are owned by '{owner}'); "
        f"name it with --engine: {', '.join(ENGINES)}"
    )


async def _owner(url: Url) -> str:
    connection = Connection(url, stall_timeout_s=TIMEOUT_S, api_key=api_key())
    try:
        return str((await _cards(connection))[0].get("owned_by"))
    finally:
        connection.close()


async def identify(speaks: Dialect, connection: Connection, *, wanted: str | None) -> Identity:
    """Ask a server what it serves. `wanted` is the model's name there, None if it serves only one.

    Raises EngineError if it does not answer as this engine does, ConfigError if it does not serve what is wanted.
    """
    cards = await _cards(connection)
    names = [str(card.get("id")) for card in cards]
    if wanted is not None and wanted not in names:
        raise ConfigError(unknown("engine.served_model", wanted, names, plural="the server serves"))
    if wanted is None and len(cards) > 1:
        raise ConfigError(f"the server serves several models, name one: --set engine.served_model={names[0]} ({names})")
    card = cards[0 if wanted is None else names.index(wanted)]
    info: Mapping[str, Any] = {}
    with suppress(RequestFailed, orjson.JSONDecodeError):
        info = orjson.loads((await connection.request("GET", speaks.INFO)).body)
    try:
        told = speaks.describe(info if isinstance(info, Mapping) else {}, card)
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        where = f"the server at {connection.url} does not answer GET {speaks.INFO}"
        raise EngineError(f"{where} as '{speaks.OWNED_BY}' does: {error!r}") from error
    settings = {name: value for name, value in told.items() if isinstance(value, str | bool | int | float | None)}
    root = card.get("root")
    return Identity(str(card.get("id")), str(card.get("owned_by")), root if isinstance(root, str) else None, settings)


async def _cards(connection: Connection) -> list[Mapping[str, Any]]:
    """The models that a server lists, at least one."""
    url = connection.url
    try:
        async with asyncio.timeout(TIMEOUT_S):
            answer = await connection.request("GET", MODELS)
        cards = orjson.loads(answer.body)["data"]
        if isinstance(cards, list) and cards and all(isinstance(card, Mapping) for card in cards):
            return cards
        raise ValueError("it lists no model")
    except Refused as refused:
        if refused.status in (401, 403):
            raise EngineError(
                f"the server at {url} refuses us (HTTP {refused.status}); set the environment variable "
                f"{API_KEY_VARIABLE} to its key"
            ) from refused
        raise EngineError(f"the server at {url} is no engine that is known here: {refused}") from refused
    except TimeoutError:
        raise EngineError(f"the server at {url} did not answer GET {MODELS} within {TIMEOUT_S:g} s") from None
    except RequestFailed as error:
        raise EngineError(f"no engine answers at {url}: {error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise EngineError(f"the server at {url} does not answer GET {MODELS} as an engine does: {error}") from error
