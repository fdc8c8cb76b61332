"""The acts of a fault run: what is done to which process, and when it was over."""

import asyncio
import contextlib
import dataclasses
import signal
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from deploy.bench.faults_machine import HOST_ADDRESS, WORKER_ADDRESS, Cable, SmallDisk, WrongClock, missing
from deploy.bench.roles import Place, RoleProcess, Roles, until
from deploy.brokers.local_kafka import LocalKafka
from schemas.errors import ConfigurationError
from streams import topology
from streams.kafka.connection import connection_options
from streams.settings import Settings

ROLE_VERBS = ("join", "term", "kill", "pause", "freeze", "full", "clock", "cut")
BROKER_VERBS = ("stop", "kill", "pause", "disk", "full", "roll")
WITH_SECONDS = {"clock": "3600", "cut": "5"}
KNOWN = f"{' '.join(ROLE_VERBS)} :ROLE, broker: {' '.join(BROKER_VERBS)} (:NUMBER); clock and cut take :SECONDS"

API, NOTIFY = "api", "notify"
SYNC_SECONDS = 90.0
ROLE_DISK_MIB, BROKER_DISK_MIB = 256, 2048


@dataclasses.dataclass(frozen=True, slots=True)
class Act:
    """``verb:role`` or ``verb:role:seconds``, or ``broker:verb`` with the broker's number behind it, 1 without."""

    name: str
    verb: str
    target: str
    seconds: int = 0
    on_broker: bool = False

    @property
    def node(self) -> int:
        """Place of the broker among all."""
        return int(self.target) - 1

    @property
    def missing(self) -> str | None:
        """Why it cannot be performed on this machine."""
        return missing(self.verb)


def act_of(name: str, brokers: int) -> Act:
    """Raises `ConfigurationError` for what is no act of a run with so many brokers."""
    first, _, rest = name.partition(":")
    target, _, detail = rest.partition(":")
    if first in ROLE_VERBS and target in (*topology.WORKER_ROLES, API, NOTIFY):
        detail = detail or WITH_SECONDS.get(first, "0")
        if detail.lstrip("+-").isdecimal() and (detail == "0" or first in WITH_SECONDS):
            return Act(name, first, target, int(detail))
    if first == "broker" and target in BROKER_VERBS and (detail or "1").isdecimal() and 0 < int(detail or 1) <= brokers:
        if target in ("disk", "roll") and brokers == 1:
            raise ConfigurationError(f"{name} needs --brokers 3: what one broker has lost is nowhere else")
        return Act(name, target, detail or "1", on_broker=True)
    raise ConfigurationError(f"unknown act {name}; known: {KNOWN}")


class Props:
    """What acts need of the machine, made before the processes start, and taken away at the end of the `with` block."""

    def __init__(self, acts: Iterable[Act], home: Path) -> None:
        self._acts, self._home = tuple(acts), home
        self._undo = contextlib.ExitStack()
        self.disks: dict[str, SmallDisk] = {}
        """By role, or number of the broker."""
        self.clocks: dict[str, WrongClock] = {}
        self.cables: dict[str, Cable] = {}

    @property
    def second_host(self) -> str | None:
        """Where brokers are found from behind a cable; None without one."""
        return HOST_ADDRESS if self.cables else None

    def __enter__(self) -> "Props":
        with contextlib.ExitStack() as undo:
            for act in self._acts:
                self._make(act, undo)
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def _make(self, act: Act, undo: contextlib.ExitStack) -> None:
        if act.verb == "full" and act.target not in self.disks:
            path = self._home / (f"broker-{act.target}/kafka/data" if act.on_broker else f"small-{act.target}")
            self.disks[act.target] = SmallDisk(path, BROKER_DISK_MIB if act.on_broker else ROLE_DISK_MIB)
            undo.callback(self.disks[act.target].close)
        if act.verb == "clock" and act.target not in self.clocks:
            self.clocks[act.target] = WrongClock(self._home / f"clock-{act.target}")
        if act.verb == "cut" and act.target not in self.cables:
            if self.cables:
                raise ConfigurationError("only one role can be cut off in a run")
            self.cables[act.target] = Cable()
            undo.callback(self.cables[act.target].close)

    def place_of(self, role: str, second_address: str) -> Place | None:
        """Where the first process of a role runs; None for like the others.

        `second_address`: of the brokers, from behind a cable.
        """
        environment: dict[str, str] = {}
        prefix: tuple[str, ...] = ()
        if role in self.disks:
            environment["GLUCAST_STATE_DIR"] = str(self.disks[role].path)
        if role in self.clocks:
            environment |= self.clocks[role].environment
        if role in self.cables:
            prefix = self.cables[role].prefix
            environment["GLUCAST_BROKER"] = second_address
            environment["GLUCAST_HEALTH_HOST"] = WORKER_ADDRESS
            return Place(environment, prefix, WORKER_ADDRESS)
        return Place(environment) if environment else None


class Stage:
    """Where the acts happen: the brokers, the roles, their props, and how long things stay away."""

    def __init__(
        self,
        settings: Settings,
        nodes: Sequence[LocalKafka],
        roles: Roles,
        props: Props,
        worker_options: Sequence[str],
        away_seconds: float | None,
        hold_seconds: float,
        say: Callable[[str], None],
    ) -> None:
        """`away_seconds`: how long a broker that is stopped or killed stays away, if not as long as is usual.

        `hold_seconds`: how long a disk stays full and a clock wrong.
        """
        self._hold_seconds = hold_seconds
        self._settings, self._nodes, self._roles, self._props = settings, nodes, roles, props
        self._worker_options, self._say = worker_options, say
        # One broker comes back soon; of several the others first have to notice that it is gone (9 s in Kafka).
        self._away_seconds = away_seconds or (2.0 if len(nodes) == 1 else 15.0)
        self._broker_pause_seconds = 30.0
        self._pause_seconds = settings.session_timeout_seconds + 2.5
        self._freeze_seconds = 3 * settings.session_timeout_seconds
        self.victim: RoleProcess | None = None
        """Whom an act ends and starts again by itself."""

    def perform(self, act: Act) -> float:
        """Blocking: do it and undo it. Returns the Unix time at which nothing hindered service any more."""
        if not act.on_broker:
            try:
                return self._on_role(act)
            finally:
                self.victim = None
        self._on_broker(act)
        over = time.time()
        if len(self._nodes) > 1:
            self._until_in_sync()
        return over

    def log_of(self, act: Act) -> Path:
        """Where an operator looks."""
        return self._nodes[act.node].log if act.on_broker else self._of(act.target)[0].log

    def _of(self, role: str) -> list[RoleProcess]:
        return [process for process in self._roles.all if process.name.startswith(f"{role}-")]

    def _on_role(self, act: Act) -> float:
        workers = self._of(act.target)
        victim = workers[0]
        match act.verb:
            case "join":
                self._join(act.target, len(workers))
            case "pause":
                self._paused(victim.signal, self._pause_seconds)
            case "freeze":
                self._paused(victim.signal, self._freeze_seconds)
            case "full":
                self._filled(self._props.disks[act.target])
            case "clock":
                self._props.clocks[act.target].shift(act.seconds)
                time.sleep(self._hold_seconds)
                self._props.clocks[act.target].shift(0)
            case "cut":
                self._props.cables[act.target].cut()
                time.sleep(act.seconds)
                self._props.cables[act.target].mend()
            case _:
                self.victim = victim
                victim.stop(30) if act.verb == "term" else victim.kill()
                victim.start_again()
        return time.time()

    def _join(self, role: str, ordinal: int) -> None:
        match role:
            case "api":
                self._roles.api(ordinal)
            case "notify":
                self._roles.notify(ordinal)
            case _:
                self._roles.worker(role, ordinal, *self._worker_options)

    def _on_broker(self, act: Act) -> None:
        node = self._nodes[act.node]
        match act.verb:
            case "roll":
                for each in self._nodes:
                    each.stop(30)
                    each.restart()
                    self._until_in_sync()
            case "pause":
                self._paused(node.signal, self._broker_pause_seconds)
            case "full":
                self._filled(self._props.disks[act.target])
                if node.returncode() is not None:
                    self._say(f"  broker {act.target} has ended with {node.returncode()}; started again")
                    node.restart()
            case _:
                node.stop(30) if act.verb == "stop" else node.kill()
                time.sleep(self._away_seconds)
                if act.verb == "disk":
                    node.format_storage()
                node.restart()

    def _paused(self, tell: Callable[[signal.Signals], None], seconds: float) -> None:
        tell(signal.SIGSTOP)
        time.sleep(seconds)
        tell(signal.SIGCONT)

    def _filled(self, disk: SmallDisk) -> None:
        deadline = time.monotonic() + self._hold_seconds
        while time.monotonic() < deadline:
            disk.fill()  # and what is freed meanwhile
            time.sleep(0.5)
        disk.clear()

    def _until_in_sync(self) -> None:
        """As an operator waits before the next broker: every partition has all its copies again."""
        began = time.monotonic()
        until(lambda: asyncio.run(behind(self._settings, len(self._nodes))) == 0, SYNC_SECONDS, "all copies in sync")
        if (seconds := time.monotonic() - began) > 1:
            self._say(f"  all copies in sync after {seconds:.0f} s more")


class Reviver:
    """What the supervisor does: a process that has ended is started again, one that dies again and again later."""

    def __init__(self, roles: Roles, again_seconds: float = 5.0) -> None:
        self._roles, self._again_seconds = roles, again_seconds
        self._started: dict[str, float] = {}

    def revive(self, but: RoleProcess | None = None) -> Mapping[str, int]:
        """Whom it has started again now, with the exit codes."""
        ended = {}
        for process in self._roles.all:
            code = process.returncode
            soon = time.monotonic() - self._started.get(process.name, float("-inf")) < self._again_seconds
            if code is not None and process is not but and not soon:
                ended[process.name] = code
                self._started[process.name] = time.monotonic()
                process.start_again()
        return ended


async def behind(settings: Settings, brokers: int) -> int:
    """How many partitions lack a copy in sync; -1 where no broker answers."""
    copies = min(3, brokers)
    client = AIOKafkaAdminClient(**connection_options(settings), request_timeout_ms=5000)
    try:
        await client.start()
        topics = await client.describe_topics()
        return sum(len(partition["isr"]) < copies for topic in topics for partition in topic["partitions"])
    except (KafkaError, OSError, TimeoutError):
        return -1
    finally:
        await client.close()
