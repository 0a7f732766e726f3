"""A real engine that a test starts as a run does, and that several runs may be made against."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from speed_bench.config import resolve
from speed_bench.engines import dialect
from speed_bench.engines.http import Connection, Url
from speed_bench.engines.server import ManagedServer, free_port


@contextmanager
def live_server(folder: Path, **flags: Any) -> Iterator[str]:
    """Start an engine with the settings that `speed-bench run` would be given, and yield its url."""
    config, _ = resolve({"max_tokens": 8, **flags})
    speaks = dialect(config.engine.name)
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    launch = speaks.launch(config, model=str(config.model), draft=config.draft, port=port, folder=folder)
    server = ManagedServer(launch, name=config.engine.name, log=folder / "engine.log", pid_file=folder / "engine.pid")

    async def ready() -> bool:
        connection = Connection(Url("127.0.0.1", port))
        try:
            await connection.request("GET", speaks.HEALTH)
        finally:
            connection.close()
        return True

    try:
        server.start()
        asyncio.run(server.wait_ready(ready, config.engine.start_timeout_s))
        yield f"http://127.0.0.1:{port}"
    finally:
        server.stop()
