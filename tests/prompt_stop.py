"""uvicorn looks every tenth of a second whether it is to stop, and then waits for another one; in tests 10 ms."""

import asyncio
from types import SimpleNamespace

from uvicorn import server


async def _sleep(seconds: float) -> None:
    await asyncio.sleep(min(seconds, 0.01))


server.asyncio = SimpleNamespace(**{**vars(asyncio), "sleep": _sleep})
