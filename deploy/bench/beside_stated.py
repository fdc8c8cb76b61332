"""In what our endpoints for GluRPC's clients differ from GluRPC on purpose, and why."""

import dataclasses
import fnmatch
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True, slots=True)
class Stated:
    """`probes` and `paths` are patterns; `theirs` is the status that GluRPC answers with, if it is about that."""

    reason: str
    probes: tuple[str, ...]
    paths: tuple[str, ...] = ("*",)
    theirs: str | None = None


STATED: tuple[Stated, ...] = (
    Stated(
        "GluRPC fails on a file that quick_plot cannot use; ours says what is wrong, as both do at process_unified",
        ("quick: *",),
        theirs="500",
    ),
    Stated(
        "what was sent is not sent back: it may be somebody's glucose",
        ("*",),
        ("body.detail[[]*[]].input*", "body.detail[[]*[]].ctx*"),
    ),
    Stated("without a key nothing is read, so also not whether it is JSON", ("no key: no JSON",)),
    Stated("true and false are no places in a series", ("draw: False", "draw: True for an index")),
    Stated("the title says which sample it is, and when", ("draw: *", "quick: *"), ("*.layout.title.text",)),
    Stated(
        "all three lanes are counted, also those in which nothing was",
        ("health*",),
        ("body.inference_requests_by_priority.*",),
    ),
    Stated("save saves, and says how many; GluRPC's does nothing", ("cache: save*",), ("body.items_affected",)),
    Stated(
        "what is not stored cannot be saved; GluRPC says that it was",
        ("cache: save an unknown handle",),
        ("body.success",),
    ),
    Stated(
        "what was saved can be loaded after it was deleted",
        ("cache: load what was deleted",),
        ("body.success", "body.items_affected"),
    ),
)


def stated_of(probe: str, path: str, theirs: Mapping[str, str], ours: Mapping[str, str]) -> Stated | None:
    """Why a field differs; None where that is not stated."""
    for stated in STATED:
        if stated.theirs not in (None, theirs["status"]):
            continue
        if any(fnmatch.fnmatchcase(probe, each) for each in stated.probes) and any(
            fnmatch.fnmatchcase(path, each) for each in stated.paths
        ):
            return stated
    return None
