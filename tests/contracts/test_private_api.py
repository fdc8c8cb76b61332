"""What we use of other libraries without their promise: each name with its shape, and what breaks without it.

Delivery without loss, tables that are never ahead, and pictures in milliseconds need more than Faust, aiokafka and
Kaleido document. A new version of theirs may rename any of it, and a method that we override then is simply never
called: nothing fails, events get lost. So versions are bounded to what was tested, every such name stands here, and
whoever raises a bound reads here what to look at. A private name that our code newly reaches for, or a method that it
newly overrides, has to be added: a scan sees to it. Public names that we only use are here by choice: those that no
documentation describes and that delivery rests on.
"""

import ast
import functools
import importlib.metadata
import inspect
import pkgutil
import re
import sys
import textwrap
import types
from collections import defaultdict
from collections.abc import Collection, Iterator
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pytest
from packaging.utils import canonicalize_name

from tests.kit.sources import PACKAGES, Source, library_of, requirements, sources


class Pin(NamedTuple):
    """One name of another library: whose it is, what we do with it, how it looks, and why we need it."""

    owner: str
    name: str
    how: Literal["overridden", "replaced", "used", "copied"]
    """Overridden in a class of ours, replaced on an object of theirs, used as it is, or its value written down."""
    shape: str
    """Of a method its parameters without annotations, else what kind of thing it is; see `shape_of`."""
    because: str

    def __str__(self) -> str:
        return f"{self.owner}.{self.name}"


_CONSUMER = "faust.transport.drivers.aiokafka.Consumer"
_THREAD = "faust.transport.drivers.aiokafka.AIOKafkaConsumerThread"
_TABLES = "faust.tables.manager.TableManager"
_PRODUCER = "faust.transport.drivers.aiokafka.Producer"
_TRANSPORT = "faust.transport.drivers.aiokafka.Transport"
_APP = "faust.app.base.App"
_MESSAGE = "faust.types.tuples.Message"
_STORE = "faust.stores.rocksdb.Store"
_AIOKAFKA = "aiokafka.consumer.consumer.AIOKafkaConsumer"
_KALEIDO = "kaleido.Kaleido"
_PIPE = "choreographer.channels.Pipe"
_RECORDER = "torch.utils._python_dispatch.TorchDispatchMode"

PINS = [
    # Faust's consumer, made strict
    Pin(_CONSUMER, "_new_consumer_thread", "overridden", "(self)",
        "Puts our fetching thread in: without it fetches wait 1.5 s, and log ends are wrong on the embedded broker."),
    Pin(_CONSUMER, "_getmany", "overridden", "async (self, active_partitions, timeout)",
        "Tells the ledgers of every fetch before anything of it can be dropped; else lost deliveries go unnoticed."),
    Pin(_CONSUMER, "getmany", "overridden", "async iterator (self, timeout)",
        "Lets through only what the ledger admits; without it records are delivered twice, or skipped after a loss."),
    Pin(_CONSUMER, "perform_seek", "overridden", "async (self)",
        "Begins a ledger at each committed offset; without it there is no ledger and nothing is ever acked."),
    Pin(_CONSUMER, "resume_flow", "overridden", "(self)",
        "Ledgers begin when flow resumes; begun earlier they would count records that Faust then throws away."),
    Pin(_CONSUMER, "_add_gap", "overridden", "async (self, tp, offset_from, offset_to)",
        "Keeps Faust from acking what it takes for a hole in the log, which after a dropped fetch are lost events."),
    Pin(_CONSUMER, "ack", "overridden", "(self, message)",
        "Acks go to the ledger; Faust's own bookkeeping would commit past events whose effects are not confirmed."),
    Pin(_CONSUMER, "_filter_tps_with_pending_acks", "overridden", "(self, topics=None)",
        "Offers the ledgers' partitions for a commit; Faust's list stays empty, so nothing would be committed."),
    Pin(_CONSUMER, "_new_offset", "overridden", "(self, tp)",
        "Commits up to the first message that is not acked; Faust's answer ignores the ledger."),
    Pin(_CONSUMER, "_should_commit", "overridden", "(self, tp, offset)",
        "Never commits backwards, and does commit when nothing was committed before."),
    Pin(_CONSUMER, "_commit_offsets", "overridden", "async (self, offsets, start_new_transaction=True)",
        "Commits without Faust's flush of the producer, which holds every commit up behind unrelated sends."),
    Pin(_CONSUMER, "on_partitions_revoked", "overridden", "async (self, revoked)",
        "Finishes and commits what is in flight before a rebalance; without it that work is done again elsewhere."),
    Pin(_CONSUMER, "on_partitions_assigned", "overridden", "async (self, assigned, generation_id=0)",
        "An assignment opens the fence and starts the watch over heartbeats; without it effects wait for ever."),
    Pin(_CONSUMER, "callback", "replaced", "attribute",
        "Tells the ledger that a message has reached the streams; else each delivery looks lost and is repeated."),
    Pin(_CONSUMER, "_commit", "used", "async (self, offsets)",
        "Sends the commit in the thread of the fetches."),
    Pin(_CONSUMER, "_thread", "used", "attribute",
        "Seeks and heartbeats belong to the thread of the fetches; elsewhere they race with a fetch."),
    Pin(_CONSUMER, "_read_offset", "used", "attribute",
        "Emptied after every delivery and seek, or Faust guesses gaps and drops what it takes for old."),
    Pin(_CONSUMER, "_committed_offset", "used", "attribute",
        "What was committed last: decides whether there is anything to commit."),
    Pin(_CONSUMER, "_unacked_messages", "used", "attribute",
        "What Faust waits for when it stops or rebalances; a message left in it holds both up."),
    Pin(_CONSUMER, "_waiting_for_ack", "used", "attribute",
        "Wakes that wait after an ack; without it each stop and rebalance takes up to a second longer."),
    Pin(_CONSUMER, "seek_to_committed", "used", "async (self)",
        "Where each ledger begins."),
    Pin(_CONSUMER, "earliest_offsets", "used", "async (self, *partitions)",
        "Where a ledger begins when its group has never committed."),
    Pin(_CONSUMER, "highwaters", "used", "async (self, *partitions)",
        "How far each log goes, asked of the broker: lag and liveness rest on it."),
    Pin(_CONSUMER, "force_commit", "used", "async (self, topics=None, start_new_transaction=True)",
        "The commit before partitions are given away, even while another one is on its way."),
    Pin(_CONSUMER, "stop_flow", "used", "(self)",
        "Lets no more messages through once partitions are being given away."),
    Pin(_CONSUMER, "flow_active", "used", "attribute",
        "Lost deliveries are sought only while messages flow: else the seek would undo a rebalance's."),
    # Faust's thread around aiokafka's consumer
    Pin(_THREAD, "_create_consumer", "overridden", "(self, loop)",
        "Shortens how long a fetch waits; Faust fixes it at 1.5 s, for which every question to the broker queues."),
    Pin(_THREAD, "_highwaters", "overridden", "async (self, partitions)",
        "Log ends from a fetch: the embedded broker's own answer is too low, and tables would stop recovering early."),
    Pin(_THREAD, "_fetch_records", "overridden",
        "async (self, consumer, active_partitions, timeout=None, max_records=None)",
        "Partitions take turns; without it one with a backlog starves the others."),
    Pin(_THREAD, "_ensure_consumer", "used", "(self)",
        "Faust's way to aiokafka's consumer, for log ends and heartbeats."),
    Pin(_THREAD, "seek_wait", "used", "async (self, partitions)",
        "Seeks between two fetches, so that no fetch moves the position at the same time."),
    # Faust's producer, transport and App
    Pin(_PRODUCER, "_new_producer", "overridden", "(self, transactional_id=None)",
        "Puts the fence before aiokafka's sender; without it a paused worker writes stale tables when it wakes up."),
    Pin(_TRANSPORT, "Consumer", "overridden", "class",
        "Puts the strict consumer in; Faust's own loses events in ordinary rebalances."),
    Pin(_TRANSPORT, "Producer", "overridden", "class",
        "Puts the fenced producer in."),
    Pin(_APP, "_new_transport", "overridden", "(self)",
        "Puts the strict transport in for consuming: the documented way takes a driver by its URL alone."),
    Pin(_APP, "_new_producer_transport", "overridden", "(self)",
        "Puts the strict transport in for producing."),
    Pin(_APP, "stop", "overridden", "async (self)",
        "Gives work back that has not begun before Faust waits for it; else that last wait never ends."),
    Pin(_APP, "_consumer", "used", "attribute",
        "Whether there is a consumer yet; the public property would make one."),
    Pin(_APP, "_assignment", "used", "attribute",
        "Whether partitions were assigned (readiness), and whether a table's partition is still ours to write."),
    Pin(_APP, "consumer_generation_id", "used", "attribute",
        "Tells a delivery of before a rebalance from one of after it: an outdated one must not be acked."),
    Pin(_APP, "rebalancing", "used", "attribute",
        "Readiness and liveness: a worker that takes over partitions is neither ready nor stalled."),
    Pin(_APP, "flow_control", "used", "attribute",
        "Empties the queues of the streams before partitions are given away."),
    Pin("faust.transport.conductor.Conductor", "acks_enabled_for", "used", "(self, topic)",
        "Tells events from changelogs, which have no ledger."),
    Pin(_MESSAGE, "acked", "used", "attribute",
        "Marked by us in the place of Faust's ack; else Faust would ack the message a second time."),
    Pin(_MESSAGE, "tracked", "used", "attribute",
        "Whether a message ever reached a stream: one that did not is not acked by an outdated delivery."),
    Pin(_MESSAGE, "generation_id", "used", "attribute",
        "The rebalance that a delivery belongs to."),
    # Faust's tables
    Pin(_TABLES, "on_start", "overridden", "async (self)",
        "Opens the tables at once; Faust sleeps a second first, at every start of a worker."),
    Pin(_TABLES, "_update_channels", "used", "async (self)",
        "The rest of that start: without it tables are not read back from their changelogs."),
    Pin(_TABLES, "recovery", "used", "property",
        "Started by us with the tables, and asked how much is left to read."),
    Pin("faust.tables.recovery.Recovery", "active_remaining_total", "used", "(self)",
        "Progress of a recovery: liveness would take a long one for a stall."),
    Pin(_STORE, "_db_for_partition", "used", "(self, partition)",
        "The RocksDB of one partition: value and changelog offset have to be written in one batch."),
    Pin(_STORE, "offset_key", "copied", r"value b'__faust\x00offset__'",
        "The key of the changelog offset: under another one recovery would read past values that are not there."),
    Pin("mode.services.Service", "logger", "overridden", "attribute",
        "Puts what our classes of Faust say under Faust's loggers, whose level our log settings govern."),
    # aiokafka
    Pin(_AIOKAFKA, "_client", "used", "attribute",
        "Sends the fetch of nothing that tells log ends on every broker."),
    Pin("aiokafka.client.AIOKafkaClient", "send", "used",
        "async (self, node_id, request, *, group=<ConnectionGroup.DEFAULT: 0>)",
        "Sends that fetch to one broker."),
    Pin("aiokafka.client.AIOKafkaClient", "cluster", "used", "attribute",
        "Knows which broker leads a partition."),
    Pin("aiokafka.cluster.ClusterMetadata", "leader_for_partition", "used", "(self, partition)",
        "The broker to ask for a partition's log end."),
    Pin("aiokafka.protocol.fetch.FetchRequest", "__init__", "used",
        "(self, max_wait_time, min_bytes, max_bytes, isolation_level, topics, rack_id='')",
        "The fetch of nothing itself: end offsets are too low on the embedded broker."),
    Pin(_AIOKAFKA, "_fetch_max_wait_ms", "used", "attribute",
        "How long a fetch waits; read when the consumer starts, and Faust gives no say in it."),
    Pin(_AIOKAFKA, "_isolation_level", "used", "attribute",
        "Whether aborted transactions are read; read when the consumer starts, and Faust gives no say in it."),
    Pin(_AIOKAFKA, "_subscription", "used", "attribute",
        "The way to the position of each partition: past markers that no record follows."),
    Pin(_AIOKAFKA, "_fetcher", "used", "attribute",
        "The way to the buffers of fetched records."),
    Pin("aiokafka.consumer.fetcher.Fetcher", "_records", "used", "attribute",
        "Those buffers in the order in which they are emptied: rotated, so that partitions take turns."),
    Pin(_AIOKAFKA, "_coordinator", "used", "attribute",
        "The way to the heartbeats."),
    Pin("aiokafka.consumer.group_coordinator.GroupCoordinator", "_do_heartbeat", "replaced", "async (self)",
        "A heartbeat that the group accepts proves that the partitions are still ours; the fence closes without it."),
    Pin("aiokafka.producer.producer.AIOKafkaProducer", "_sender", "used", "attribute",
        "The way to the requests that leave for a broker."),
    Pin("aiokafka.producer.sender.Sender", "_send_produce_req", "replaced", "async (self, node_id, batches)",
        "Every request to write waits at the fence, also those that were queued before a pause."),
    Pin("aiokafka.partitioner", "murmur2", "used", "(data)",
        "Partitions keys as Kafka's own clients do: with another hash a subject's readings land where nobody looks."),
    # Kaleido and choreographer
    Pin(_KALEIDO, "_return_kaleido_tab", "overridden", "async (self, tab)",
        "Skips the reload of the page, and of 5 MB of script, between any two pictures."),
    Pin(_KALEIDO, "_render_task", "overridden", "async (self, fig_arg, *, topojson, _write, profiler, stepper)",
        "Takes the error of a drawing that nobody awaits because Chromium died first: asyncio would log it later."),
    Pin(_KALEIDO, "tabs_ready", "used", "attribute",
        "Where a page goes back to without that reload."),
    Pin("choreographer.Browser", "subprocess", "used", "attribute",
        "Kills a Chromium that hangs: its log is read in a thread that ends with it, and so does the whole process."),
    Pin(_PIPE, "read_jsons", "overridden", "(self, *, blocking=True)",
        "Tells when a thread waits for Chromium's next message: the pipe must not be closed under it."),
    Pin(_PIPE, "close", "overridden", "(self)",
        "Waits until that thread has left: the next browser's pipe gets the same numbers, and loses answers to it."),
    Pin(_PIPE, "from_external_to_choreo", "used", "attribute",
        "Wakes that thread by the end of a message, in Chromium's name."),
    # torch
    Pin("torch.cpu", "_is_avx512_bf16_supported", "used", "()",
        "Serves in bf16 only where the processor multiplies it natively: emulated, it is slower than fp32."),
    Pin("torch.cpu", "_is_amx_tile_supported", "used", "()",
        "The same, for processors with matrix tiles."),
    Pin("torch.utils", "_python_dispatch", "used", "module",
        "The benchmark counts matrix products where torch carries them out; its classes have no other home."),
    Pin(_RECORDER, "__torch_dispatch__", "overridden", "(self, func, types, args=(), kwargs=None)",
        "Sees each of those products."),
]  # fmt: skip

DOCUMENTED = {"_exit", "_fields", "_make", "_replace", "_asdict"}
"""Names of the standard library that have an underscore and are promised all the same: `os._exit`, named tuples."""

WITHOUT_PROMISE = {"faust", "mode", "aiokafka", "kaleido", "choreographer"}
"""Not made to be inherited from: whatever we override of these is listed, with an underscore or without."""


# what the libraries have


def shape_of(owner: Any, name: str) -> str:
    """How a name looks there: of a function its parameters, else what it is; "missing" where there is none."""
    homes = getattr(owner, "__mro__", (owner,))
    for home in homes:
        if name in vars(home):
            return _described(vars(home)[name])
    return "attribute" if any(name in _assigned(home) for home in homes) else "missing"


def _described(value: Any) -> str:
    if inspect.isroutine(value):
        function = inspect.unwrap(value)
        signature = inspect.signature(function)
        bare = [each.replace(annotation=inspect.Parameter.empty) for each in signature.parameters.values()]
        parameters = signature.replace(parameters=bare, return_annotation=inspect.Signature.empty)
        if inspect.isasyncgenfunction(function):
            return f"async iterator {parameters}"
        return f"async {parameters}" if inspect.iscoroutinefunction(function) else str(parameters)
    if isinstance(value, bytes):
        return f"value {value!r}"
    kinds = {property: "property", type: "class", types.ModuleType: "module"}
    return next((text for kind, text in kinds.items() if isinstance(value, kind)), "attribute")


@functools.cache
def _assigned(home: type) -> frozenset[str]:
    """What the methods of a class put on `self`."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(home)))
    except (OSError, TypeError):  # compiled
        return frozenset()
    return frozenset(node.attr for node in ast.walk(tree) if _is_of_self(node) and isinstance(node.ctx, ast.Store))


@functools.cache
def _text_of(library: str) -> str:
    """The source text of a library, by the name under which it is imported."""
    home = Path(pkgutil.resolve_name(library).__file__).parent
    return "\n".join(path.read_text(errors="replace") for pattern in ("*.py", "*.pyx") for path in home.rglob(pattern))


@pytest.mark.parametrize("pin", PINS, ids=str)
def test_a_name_of_another_library_is_as_we_know_it(pin: Pin) -> None:
    try:
        now = shape_of(pkgutil.resolve_name(pin.owner), pin.name)
    except (ImportError, AttributeError) as error:
        now = f"missing with its owner: {error}"
    assert now == pin.shape, (
        f"{pin} has changed.\n  was: {pin.shape}\n  is:  {now}\n"
        f"  what for: {pin.because}\n  {pin.how} at: {', '.join(uses(pin)) or 'nowhere'}\n"
        "Look at the places, then correct this table, or bound the version in pyproject.toml."
    )


PUT_IN_PLACE = [pin for pin in PINS if pin.how in ("overridden", "replaced") and not pin.name.startswith("__")]


@pytest.mark.parametrize("pin", PUT_IN_PLACE, ids=str)
def test_what_we_put_in_its_place_is_still_asked_for(pin: Pin) -> None:
    """A library may keep a method and no longer call it: ours would never run, and nobody would notice."""
    libraries = {"faust": ("faust", "mode")}.get(library_of(pin.owner), (library_of(pin.owner),))
    asked = re.compile(rf"(?<!super\(\))\.{pin.name}\b")
    assert any(asked.search(_text_of(library)) for library in libraries), (
        f"{pin} is asked for nowhere in {' and '.join(libraries)} any more, so what we put there is dead: "
        f"{', '.join(uses(pin))}. What for: {pin.because}"
    )


# what our code uses


def _is_of_self(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")


def _is_of_super(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and ast.unparse(node.value) == "super()"


def _is_private(name: str) -> bool:
    return name.strip("_") != "" and name.startswith("_") and not name.endswith("__")


def _names(node: ast.AST) -> list[str]:
    """The names that a node reaches for or defines."""
    match node:
        case ast.Attribute(attr=name) | ast.Name(id=name, ctx=ast.Store()):
            return [name]
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return [name]
        case ast.Import(names=aliases):
            return [part for alias in aliases for part in alias.name.split(".")]
        case ast.ImportFrom(names=aliases, module=str(module), level=0):
            return [*module.split("."), *(alias.name for alias in aliases)]
        case ast.Call(func=ast.Name(id="getattr" | "setattr" | "hasattr"), args=[_, ast.Constant(value=str(name)), *_]):
            return [name]
        case ast.Constant(value=bytes(value)):
            return [f"value {value!r}"]
    return []


@functools.cache
def _places() -> dict[str, list[tuple[Source, ast.AST]]]:
    places: dict[str, list[tuple[Source, ast.AST]]] = defaultdict(list)
    for source in sources(*PACKAGES):
        for node in ast.walk(source.tree):
            for name in _names(node):
                places[name].append((source, node))
    return places


def uses(pin: Pin) -> list[str]:
    """Where our code has the name: of a constructor that of its class, of a copied value the value itself.

    A name without an underscore may be anybody's: of such, only places in modules that import the library.
    """
    shown = pin.shape if pin.how == "copied" else pin.name
    if pin.name == "__init__":
        shown = pin.owner.rpartition(".")[2]
    places = _places().get(shown, [])
    near = [(source, node) for source, node in places if _is_private(shown) or library_of(pin.owner) in source.imports]
    return [source.at(node) for source, node in near or places]


class Found(NamedTuple):
    """A name in our code that may be somebody else's."""

    name: str
    where: str
    family: tuple[type, ...] = ()
    """Of a name that a class of ours shares with what it inherits from: those classes."""

    def is_listed(self) -> bool:
        pins = [pin for pin in PINS if pin.name == self.name]
        return any(not self.family or pkgutil.resolve_name(pin.owner) in self.family for pin in pins)


def found(source: Source) -> Iterator[Found]:
    """All private names that a module reaches for in others' objects, and all that its classes share with others'."""
    yield from reached_for(source, defined(source))
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ClassDef) and (family := _family(source, node)):
            yield from _shared(source, node, family)


def defined(source: Source) -> set[str]:
    """The names that a module defines, in whatever it defines them."""
    kinds = (ast.Name, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return {
        name
        for node in ast.walk(source.tree)
        if isinstance(node, kinds) or (_is_of_self(node) and isinstance(node.ctx, ast.Store))
        for name in _names(node)
    }


def reached_for(source: Source, ours: Collection[str]) -> Iterator[Found]:
    """Private names that are neither `ours` nor of `self`, which is for `_shared` to judge."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ImportFrom) and library_of(node.module or "") in (*PACKAGES, "tests"):
            continue
        if isinstance(node, ast.Attribute | ast.Import | ast.ImportFrom | ast.Call) and not _is_of_self(node):
            for name in _names(node):
                if _is_private(name) and name not in DOCUMENTED and name not in ours:
                    yield Found(name, source.at(node))


def _shared(source: Source, node: ast.ClassDef, family: tuple[type, ...]) -> Iterator[Found]:
    """Names of a class of ours that its foreign family has too: private ones, and of some libraries all that we set."""
    theirs = {
        name for home in family for name in (*vars(home), *_assigned(home), *vars(home).get("__annotations__", ()))
    }
    careful = any(library_of(home.__module__) in WITHOUT_PROMISE for home in family)
    body = {id(part) for child in node.body for part in (child, *getattr(child, "targets", ()))}
    for child in ast.walk(node):
        is_set = id(child) in body or (_is_of_self(child) and isinstance(child.ctx, ast.Store))
        if is_set or _is_of_self(child) or _is_of_super(child):
            for name in _names(child):
                if name in theirs and (_is_private(name) or (is_set and careful and not name.startswith("__"))):
                    yield Found(name, source.at(child), family)


def _family(source: Source, node: ast.ClassDef) -> tuple[type, ...]:
    """The classes of other libraries that a class of ours inherits from, the standard library's aside."""
    beside = {each.name: each for each in ast.walk(source.tree) if isinstance(each, ast.ClassDef) and each is not node}
    family: list[type] = []
    for base in node.bases:
        head, _, rest = ast.unparse(base.value if isinstance(base, ast.Subscript) else base).partition(".")
        if head in beside:
            family += _family(source, beside[head])
        elif origin := _origin(source, head):
            dotted = f"{origin}.{rest}" if rest else origin
            library = library_of(dotted)
            # An extra that is not installed cannot be looked at. `importlib.util` stumbles over Faust's lazy module.
            if library in PACKAGES or (library not in sys.stdlib_module_names and PathFinder.find_spec(library)):
                family += pkgutil.resolve_name(dotted).__mro__
    strangers = {*sys.stdlib_module_names, *PACKAGES}
    return tuple(home for home in dict.fromkeys(family) if library_of(home.__module__) not in strangers)


def _origin(source: Source, name: str) -> str | None:
    """The dotted path of what a module has imported under this name."""
    for node in ast.walk(source.tree):
        for alias in getattr(node, "names", ()):
            match node:
                case ast.ImportFrom(module=str(module)) if name == (alias.asname or alias.name):
                    return f"{module}.{alias.name}"
                case ast.Import() if name == (alias.asname or library_of(alias.name)):
                    return alias.name if alias.asname else name
    return None


def test_every_name_that_is_not_ours_is_listed() -> None:
    names = [each for source in sources(*PACKAGES) for each in found(source)]
    assert sorted({f"{each.name} at {each.where}" for each in names if not each.is_listed()}) == [], (
        "These belong to another library, which may change them at any time. Do without, or add each to PINS with its "
        "shape and what breaks without it. (If it is our own, give it a public name where another module needs it.)"
    )


def test_tests_reach_for_no_other_names() -> None:
    ours = set().union(*map(defined, sources(*PACKAGES, "tests")))
    names = [each for source in sources("tests") for each in reached_for(source, ours)]
    assert sorted({f"{each.name} at {each.where}" for each in names if not each.is_listed()}) == []


@pytest.mark.parametrize("pin", PINS, ids=str)
def test_every_listed_name_is_still_used(pin: Pin) -> None:
    assert uses(pin), f"{pin} is used nowhere any more: take it out of PINS"


def test_no_name_is_listed_twice() -> None:
    assert len({str(pin) for pin in PINS}) == len(PINS)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("def f(consumer):\n return consumer._undocumented", {"_undocumented"}),
        ("def f(consumer):\n return getattr(consumer, '_undocumented')", {"_undocumented"}),
        ("from aiokafka.util import _hidden", {"_hidden"}),
        ("import aiokafka._private.part", {"_private"}),
        ("import os\nos._exit(1)", set()),
        ("class Own:\n def __init__(self, other):\n  self._x = other._x", set()),
        ("import faust\nclass A(faust.App):\n def f(self):\n  return self._monitor", {"_monitor"}),
        ("import faust\nclass A(faust.App):\n def f(self):\n  self._monitor = self._monitors = 1", {"_monitor"}),
        ("import faust\nclass A(faust.App):\n def f(self):\n  return super()._new_scheduler()", {"_new_scheduler"}),
        ("import faust\nclass A(faust.App):\n def on_webserver_init(self, web): ...", {"on_webserver_init"}),
        ("def f():\n from faust import App\n class A(App):\n  x = 1\n  tracer = 1", {"tracer"}),
        ("import faust as f\nclass A(f.App): ...\nclass B(A):\n logger = None\n tracer = None", {"tracer"}),
        ("import faust\nclass A(faust.App):\n def of_our_own(self):\n  self._of_our_own = self.conf", set()),
        ("import kaleido\nclass K(kaleido.Kaleido):\n async def _get_kaleido_tab(self): ...", {"_get_kaleido_tab"}),
        ("from torch import nn\nclass N(nn.Module):\n def forward(self, x):\n  return self._modules", {"_modules"}),
    ],
)
def test_the_scan_finds_what_slips_in(text: str, names: set[str]) -> None:
    source = Source("some.py", ast.parse(text))
    assert {each.name for each in found(source) if not each.is_listed()} == names


# what was tested


def test_versions_are_bounded_where_there_is_no_promise() -> None:
    """A release that may bring other internals is not installed before somebody has looked: a patch at most."""
    declared = {canonicalize_name(each.name): each.specifier for each in requirements()}
    homes = importlib.metadata.packages_distributions()
    for library in sorted({library_of(pin.owner) for pin in PINS}):
        (distribution,) = {canonicalize_name(name) for name in homes[library]}
        version = importlib.metadata.version(distribution)
        major, minor = version.split(".")[:2]
        assert distribution in declared, f"{distribution} is not declared although we use its internals"
        assert declared[distribution].contains(version), f"{distribution} {version} is not what pyproject.toml asks for"
        beyond = f"{major}.{int(minor) + 1}.0"
        assert not declared[distribution].contains(beyond), f"{distribution} {beyond} would be installed untested"
