"""What waits at the fence leaves only while the fence is open, whatever was asked meanwhile."""

import asyncio

import pytest

from streams.kafka.fence import Fence
from streams.kafka.producer import behind

SESSION_SECONDS = 10.0


class Group:
    """A group, by a clock that is set, and a broker that is asked who leads. `away`: seconds that its answers take."""

    def __init__(self, *away: float) -> None:
        self.now = 0.0
        self.fence = Fence(SESSION_SECONDS, lambda: self.now)
        self.sent: list[tuple[float, object]] = []
        self.asked: list[float] = []
        self._away = list(away)

    async def who_leads(self) -> None:
        self.asked.append(self.now)
        self.now += self._away.pop(0)

    async def send(self, node_id: object, _: object) -> None:
        assert not self.fence.closed
        self.sent.append((self.now, node_id))

    async def beats(self) -> None:
        """The group answers from now on, each time that it is waited for."""
        while True:
            if self.fence.closed:
                self.fence.prove()
            await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("silent", "away", "asked", "sent"),
    [(1.0, (), [], 1.0), (11.0, (3.0,), [11.0], 14.0), (11.0, (30.0, 3.0), [11.0, 41.0], 44.0)],
    ids=["open", "open again", "closed while it asked"],
)
async def test_a_request_waits_for_the_fence_and_asks_who_leads(
    silent: float, away: tuple[float, ...], asked: list[float], sent: float
) -> None:
    group = Group(*away)
    group.now = silent
    beating = asyncio.create_task(group.beats())
    async with asyncio.timeout(30):
        await behind(group.fence, group.who_leads, group.send)(7, {})
    beating.cancel()
    assert (group.asked, group.sent) == (asked, [(sent, 7)])
