"""An application of aiohttp that listens on a port of its own."""

import contextlib
from collections.abc import AsyncIterator

from aiohttp import web

from deploy.brokers.wire import LOOPBACK


@contextlib.asynccontextmanager
async def listening(application: web.Application) -> AsyncIterator[str]:
    """Its address, while the block runs."""
    runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, LOOPBACK, 0).start()
        yield f"http://{LOOPBACK}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
