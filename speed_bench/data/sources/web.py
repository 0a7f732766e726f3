"""Files of the web over HTTPS: from hosts that the sources name and no others, whole or not at all."""

import http.client
import time
import urllib.request
from collections.abc import Callable, Collection
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import IO, Any, Final
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from speed_bench.errors import DataError

ORIGINS: Final = frozenset({"https://raw.githubusercontent.com", "https://opencompass.openxlab.space"})
"""Where the files of `SOURCES` are. A redirect to anywhere else is refused."""

_BLOCK: Final = 1 << 16
_PASSING: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Answers that another attempt may not get."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a download is."""

    what: str
    done: int
    total: int | None
    """None where it is not known beforehand."""
    unit: str
    """`bytes` or `records`."""


@dataclass(frozen=True, slots=True)
class Limits:
    """When to give a download up."""

    max_bytes: int = 2 << 30
    silence_s: float = 30.0
    """Longest time without a byte."""
    attempts: int = 5
    wait_s: float = 1.0
    """Before the second attempt; twice as long before each further one."""


class _Interrupted(Exception):
    """An attempt that failed in a way that another may not."""


class Web:
    """Downloads from a list of origins (`https://host` or `https://host:port`)."""

    def __init__(
        self,
        origins: Collection[str] = ORIGINS,
        limits: Limits | None = None,
        progress: Callable[[Progress], None] = lambda _: None,
    ) -> None:
        self.origins = frozenset(origins)
        self.limits = limits or Limits()
        self.progress = progress
        self._opener = urllib.request.build_opener(_Redirects(self._require))

    def fetch(self, url: str, path: Path) -> None:
        """Write what is at `url` to `path`. What an attempt got is kept for the next one where the server can go on.

        Raises DataError with what the server or the network said; the file at `path` is then not whole.
        """
        self._require(url)
        etag: str | None = None
        reason = ""
        path.unlink(missing_ok=True)
        for attempt in range(self.limits.attempts):
            if attempt:
                time.sleep(self.limits.wait_s * 2 ** (attempt - 1))
            have = path.stat().st_size if etag and path.exists() else 0
            try:
                with self._open(url, have, etag) as answer:
                    etag = _strong(answer.headers.get("ETag"))
                    self._write(answer, url, path, have if answer.status == HTTPStatus.PARTIAL_CONTENT else 0)
                return
            except _Interrupted as error:
                reason = str(error)
        raise DataError(f"{url} could not be fetched in {self.limits.attempts} attempts: {reason}; run it again later")

    def _open(self, url: str, have: int, etag: str | None) -> Any:
        headers = {"User-Agent": "speed-bench", "Accept-Encoding": "identity"}
        if have and etag:
            headers |= {"Range": f"bytes={have}-", "If-Range": etag}
        request = urllib.request.Request(url, headers=headers)  # noqa: S310 - its origin was checked
        try:
            return self._opener.open(request, timeout=self.limits.silence_s)
        except HTTPError as error:
            with error:
                if error.code in _PASSING:
                    raise _Interrupted(f"the server answered {error.code}") from error
                raise DataError(f"{url} cannot be fetched: {_meaning(error.code)}") from error
        except (URLError, OSError, http.client.HTTPException) as error:
            raise _Interrupted(_reason(error)) from error

    def _write(self, answer: Any, url: str, path: Path, have: int) -> None:
        """Append the body to what is there of it. Raises _Interrupted unless all of it arrived."""
        if answer.length is None and not answer.chunked:
            raise DataError(f"{url} cannot be fetched: the server does not say how long it is")
        total = None if answer.length is None else have + answer.length
        self._require_room(url, total or 0)
        done = have
        with path.open("r+b" if have else "wb") as file:
            file.seek(have)
            while block := _read(answer):
                done += len(block)
                self._require_room(url, done)
                file.write(block)
                self.progress(Progress(url, done, total, "bytes"))
        if total is not None and done != total:
            raise _Interrupted(f"the connection was cut after {done:,} of {total:,} bytes")

    def _require_room(self, url: str, num_bytes: int) -> None:
        if num_bytes > self.limits.max_bytes:
            raise DataError(f"{url} is larger than the {self.limits.max_bytes:,} bytes that are taken from the web")

    def _require(self, url: str) -> None:
        if _origin(url) not in self.origins:
            raise DataError(
                f"{url} is not fetched: sources are read from {', '.join(sorted(self.origins))} and nowhere else"
            )


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a redirect only to where files may be fetched from."""

    max_redirections = 5

    def __init__(self, require: Callable[[str], None]) -> None:
        self._require = require

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        try:
            self._require(newurl)
        except DataError as error:
            fp.close()
            raise DataError(f"{req.full_url} redirects elsewhere: {error}") from error
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _read(answer: Any) -> bytes:
    try:
        return bytes(answer.read(_BLOCK))
    except (OSError, http.client.HTTPException) as error:
        raise _Interrupted(_reason(error)) from error


def _origin(url: str) -> str | None:
    """Scheme, host and port of an address, as `ORIGINS` writes them; None where there is no telling.

    >>> _origin("https://raw.githubusercontent.com/a/b"), _origin("https://raw.githubusercontent.com@elsewhere.example/")
    ('https://raw.githubusercontent.com', 'https://elsewhere.example')
    """
    try:
        parts = urlsplit(url)
        port = "" if parts.port is None else f":{parts.port}"
    except ValueError:
        return None
    return f"{parts.scheme}://{parts.hostname}{port}"


def _strong(etag: str | None) -> str | None:
    """An entity tag that vouches for every byte; only then can a download go on where it was cut."""
    return etag if etag and not etag.startswith("W/") else None


def _reason(error: Exception) -> str:
    """What the network says, in words.

    >>> _reason(URLError(ConnectionRefusedError(111, "Connection refused")))
    'Connection refused'
    >>> _reason(TimeoutError("timed out"))
    'the server fell silent'
    """
    inner = error.reason if isinstance(error, URLError) else error
    if isinstance(inner, TimeoutError):
        return "the server fell silent"
    if isinstance(inner, http.client.IncompleteRead):
        return "the connection was cut"
    return getattr(inner, "strerror", None) or str(inner) or type(inner).__name__


def _meaning(status: int) -> str:
    meanings = {401: "the server asks for a login", 403: "the server refuses", 404: "there is no such file any more"}
    return f"{meanings.get(status, 'the server answered')} ({status})"
