"""The trace of a request is that of what it causes, and of nothing else."""

import asyncio

from starlette.datastructures import Headers

from query_api import trace
from schemas.event import TRACEPARENT

PARENT = f"00-{1:032x}-{2:016x}-01"


async def test_tasks_of_a_request_are_in_its_trace_and_others_in_none() -> None:
    async def caused() -> dict[str, bytes]:
        await asyncio.sleep(0)
        return trace.headers()

    async def request(parent: str | None) -> list[dict[str, bytes]]:
        with trace.of_request(Headers({} if parent is None else {"TraceParent": parent})):
            return [await caused(), await asyncio.create_task(caused()), await asyncio.to_thread(trace.headers)]

    with_one, without, odd = await asyncio.gather(request(PARENT), request(None), request("00-1-2-é"))
    assert with_one == [{TRACEPARENT: PARENT.encode()}] * 3
    assert without == odd == [{}] * 3
    assert trace.headers() == {}
