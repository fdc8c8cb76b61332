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
from collections.abc import Collection, Iterator
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from aiokafka.consumer import fetcher
from aiokafka.record.memory_records import MemoryRecords
from packaging.utils import canonicalize_name

from streams.kafka import decoding
from streams.kafka.fetched import Fetched
from tests.contracts.pins import PINS, Pin
from tests.kit.sources import PACKAGES, Source, library_of, requirements, sources

DOCUMENTED = {"_exit", "_current_frames", "_fields", "_make", "_replace", "_asdict"}
"""Names of the standard library that have an underscore and are promised all the same: `os._exit`, named tuples."""

WITHOUT_PROMISE = {"faust", "mode", "aiokafka", "kaleido", "choreographer"}
"""Not made to be inherited from: whatever we override of these is listed, with an underscore or without."""


@pytest.fixture(autouse=True)
def as_the_libraries_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever made a consumer in this process before has put our classes in the place of three of theirs."""
    theirs = next(kind for kind in decoding.LenientRecords.__mro__ if kind.__module__ == fetcher.__name__)
    monkeypatch.setattr(fetcher, "PartitionRecords", theirs)
    monkeypatch.setattr(fetcher, "MemoryRecords", MemoryRecords)
    monkeypatch.setattr(fetcher, "FetchResult", Fetched.__base__)


# what the libraries have


def shape_of(owner: Any, name: str) -> str:
    """How a name looks there: of a function its parameters, else what it is; "missing" where there is none."""
    homes = getattr(owner, "__mro__", (owner,))
    for home in homes:
        if name in vars(home):
            return _described(vars(home)[name])
    if any(name in _assigned(home) for home in homes):
        return "attribute"
    return "declared" if any(name in vars(home).get("__annotations__", ()) for home in homes) else "missing"


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
    asked = re.compile(rf"(?<!super\(\))\.{pin.name}\b|= {pin.name}\(")  # of a class, or of a module
    assert any(asked.search(_text_of(library)) for library in libraries), (
        f"{pin} is asked for nowhere in {' and '.join(libraries)} any more, so what we put there is dead: "
        f"{', '.join(uses(pin))}. What for: {pin.because}"
    )


# what our code uses


def _is_of_self(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")


def _is_of_super(node: ast.AST) -> bool:
    match node:
        case ast.Attribute(value=ast.Call(func=ast.Name(id="super"), args=[], keywords=[])):
            return True
    return False


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


class Place(NamedTuple):
    """Where our code has a name, and which libraries the module there imports."""

    where: str
    imports: set[str]


@functools.cache
def _places() -> dict[str, list[Place]]:
    """Of every name that is listed."""
    places: dict[str, list[Place]] = {_shown(pin): [] for pin in PINS}
    for source in sources(*PACKAGES):
        imports = source.imports
        for node in ast.walk(source.tree):
            for name in _names(node):
                if name in places:
                    places[name].append(Place(source.at(node), imports))
    return places


def _shown(pin: Pin) -> str:
    """The name as our code has it: of a constructor that of its class, of a copied value the value itself."""
    if pin.name == "__init__":
        return pin.owner.rpartition(".")[2]
    return pin.shape if pin.how == "copied" else pin.name


def uses(pin: Pin) -> list[str]:
    """Where our code has the name.

    A name without an underscore may be anybody's: of such, only places in modules that import the library.
    """
    places = _places()[_shown(pin)]
    near = [each for each in places if _is_private(_shown(pin)) or library_of(pin.owner) in each.imports]
    return [each.where for each in near or places]


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
    classes = [node for node in ast.walk(source.tree) if isinstance(node, ast.ClassDef)]
    for node in classes:
        if family := _family(source, node, classes):
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


def _family(source: Source, node: ast.ClassDef, classes: Collection[ast.ClassDef]) -> tuple[type, ...]:
    """The classes of other libraries that one of a module's `classes` inherits from, the standard library's aside."""
    beside = {each.name: each for each in classes if each is not node}
    family: list[type] = []
    for base in node.bases:
        head, _, rest = ast.unparse(base.value if isinstance(base, ast.Subscript) else base).partition(".")
        if head in beside:
            family += _family(source, beside[head], classes)
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
