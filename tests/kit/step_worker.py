"""An ingest worker whose steps are a test's: ``python -m tests.kit.step_worker BEHAVIOUR``, settings as any worker.

Behaviours of the window step: counting (a table write and a send a message, poison fails), waiting (never returns),
spinning (never lets the event loop go on), holding (counting; and unify tells for each upload how many bytes are held).
"""

import asyncio
import sys

from agents.work import StepFunction, Work
from schemas.topics import READING_OUTCOMES, UPLOAD_OUTCOMES
from streams import logs
from streams.apps import step_app
from streams.kafka.consumer import StrictApp
from streams.runner import RoleRunner
from streams.settings import Settings
from streams.topology import Step


async def counting(work: Work) -> None:
    """How often a key was seen goes into the table and out as an outcome."""
    if work.message.value == b"poison":
        raise ZeroDivisionError("poison")
    key = (work.message.key or b"").decode()
    seen = b"%d" % (int(work.get("subjects", key) or b"0") + 1)
    work.put("subjects", key, seen)
    work.send(READING_OUTCOMES, key, seen)


async def waiting(work: Work) -> None:
    """Waits for what never comes."""
    await asyncio.Event().wait()


async def spinning(work: Work) -> None:
    """Keeps the event loop to itself."""
    while True:
        pass


def holding(app: StrictApp) -> StepFunction:
    """Takes its time over an upload, and tells how many bytes of messages the App holds meanwhile."""

    async def told(work: Work) -> None:
        await asyncio.sleep(PARSING_SECONDS)
        held = sum(ledger.held_bytes for ledger in app.ledgers().values())
        work.send(UPLOAD_OUTCOMES, str(work.message.offset), b"%d" % held)

    return told


async def idle(work: Work) -> None:
    """No effects."""


BEHAVIOURS: dict[str, StepFunction] = {"counting": counting, "waiting": waiting, "spinning": spinning}
PARSING_SECONDS = 0.05


async def main(behaviour: str) -> int:
    settings = Settings()
    logs.configure(settings)
    runner = RoleRunner("ingest", settings)
    await runner.prepare()

    async def unify(work: Work) -> None:
        await (holding(runner.apps[0]) if behaviour == "holding" else idle)(work)

    def load(step: Step, _: Settings) -> StepFunction:
        return {"window": BEHAVIOURS.get(behaviour, counting), "unify": unify}.get(step.name, idle)

    runner.apps.append(step_app("ingest", runner.host, load))
    return await runner.run()


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1])))
