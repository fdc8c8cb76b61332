"""What ends the waiting for an answer of the workers: the row that was asked for, or the error that says why not."""

from collections.abc import Callable, Sequence

from query_api.projections.fan_charts import ChartRow
from schemas import errors
from schemas.errors import GlucastError, OutOfRangeError, RejectedError, UnavailableError, UnknownHandleError
from schemas.outcome import RequestOutcome
from schemas.upload import UploadOutcome


def awaited_row(told: Sequence[object], demand_id: str, force: bool) -> ChartRow | None:
    """The awaited row among what was told; by force only the one made for the demand. Raises what ends the waiting."""
    for item in told:
        if item is None:
            raise UnknownHandleError("the handle was deleted while its forecast was awaited")
        if isinstance(item, ChartRow) and (not force or item.chart.demand_id == demand_id):
            return item
        if isinstance(item, RequestOutcome) and _concerns(item, demand_id, force):
            raise _FAILURES[item.status](item.reason)
    return None


def _concerns(outcome: RequestOutcome, demand_id: str, force: bool) -> bool:
    """Requests of an earlier life of the handle end too; only a model that fails, fails for everybody."""
    own = outcome.demand_id == demand_id or (outcome.status in ("failed", "implausible") and not force)
    return own and outcome.status in _FAILURES


_FAILURES: dict[str, Callable[[str], GlucastError]] = {
    "unknown_handle": UnknownHandleError,
    "out_of_range": OutOfRangeError,
    "dropped": UnknownHandleError,
    "failed": UnavailableError,
    "implausible": errors.ImplausibleError,
}


_REJECTIONS = {
    kind.code: kind
    for kind in (
        errors.MalformedRecordError,
        errors.MessageTooLargeError,
        errors.UnknownFormatError,
        errors.TooShortError,
        errors.TooCostlyError,
        errors.ImplausibleError,
    )
}


def rejection(outcome: UploadOutcome) -> RejectedError:
    """Why a file was rejected, as the error that says so."""
    kind = _REJECTIONS.get(outcome.code or "", RejectedError)
    return kind(outcome.reason or "the file was rejected")
