"""What must hold of every message, whatever it was: how it ended, and what it left behind."""

import math
import re
from collections.abc import Iterator
from typing import Any, get_args

from agents.work import Send, Work
from schemas import errors, topics
from schemas.alert import Alert
from schemas.arrival import Arrival
from schemas.arrow_record import ArrowRecord
from schemas.dead_letter import DeadLetter
from schemas.errors import GlucastError, RejectedError
from schemas.fan_chart import MEDIAN, FanChart
from schemas.fan_chart_row import from_row
from schemas.forecast import Forecast, ForecastRequest, ForecastWindow
from schemas.grid import CENTI, HIGHEST_MGDL, HORIZON_STEPS, LOWEST_MGDL, LOWEST_SENSOR_MGDL, PAST_POINTS
from schemas.outcome import RequestOutcome, RequestStatus
from schemas.reading import EXPIRED, Reading, ReadingOutcome
from schemas.record import Record
from schemas.replay import ReplayedForecast
from schemas.score import TargetScore
from schemas.series import Series
from schemas.tables import FAN_CHART_TABLES, ChartKey
from schemas.topics import Topic
from schemas.upload import UploadOutcome

RECORDS: dict[str, type[Record] | type[ArrowRecord]] = {
    "Reading": Reading, "Series": Series, "ForecastRequest": ForecastRequest, "Forecast": Forecast,
    "FanChart": FanChart, "ReadingOutcome": ReadingOutcome, "UploadOutcome": UploadOutcome,
    "RequestOutcome": RequestOutcome, "DeadLetter": DeadLetter, "Alert": Alert, "Arrival": Arrival,
    "TargetScore": TargetScore, "ReplayedForecast": ReplayedForecast,
}  # fmt: skip
OUTCOMES = (topics.READING_OUTCOMES, topics.UPLOAD_OUTCOMES, topics.REQUEST_OUTCOMES)
MOST_BYTES = 48 << 20
"""That one message may cause to be sent: a demand of 4096 windows is the largest."""
_CODES = {
    kind.code for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, RejectedError)
}  # fmt: skip
_ENDS_WITHOUT_CHART = set(get_args(RequestStatus))
_UNFIT_FOR_PEOPLE = re.compile(
    r"\b(?!RejectedError)[A-Z]\w*(Error|Exception)\b|Traceback|object has no attribute|NoneType|pydantic|0x[0-9a-f]{6}"
)
_LONGEST_REASON = 4000
_SEEN = re.compile(r"/seen$|^seen-on/")
"""The keys under which a subject was heard of last."""


def ending_of(work: Work) -> str:
    """How a message ended, in a word or two."""
    if work.failure is not None:
        return f"dead letter: {work.failure.code}"
    for send in work.sends:
        outcome = _outcome(send)
        if isinstance(outcome, ReadingOutcome) and outcome.status in ("rejected", "no_forecast"):
            return f"{outcome.status}: {outcome.code}"
        if isinstance(outcome, UploadOutcome) and outcome.status == "rejected":
            return f"rejected: {outcome.code}"
        if isinstance(outcome, RequestOutcome):
            return f"no chart: {outcome.status}"
        if send.topic == topics.REPLAYS and isinstance(replayed := _record(send), ReplayedForecast):
            return "replayed" if replayed.chart is not None else f"no chart: {replayed.status}"
    return "processed"


def violations(work: Work) -> Iterator[str]:
    """What does not hold of a finished work, in words."""
    yield from _of_failure(work)
    yield from _of_end(work)
    if (total := sum(len(send.value or b"") for send in work.sends)) > MOST_BYTES:
        yield f"{total >> 20} MiB to be sent for one message"
    for send in work.sends:
        yield from _of_send(send)
    for (table, key), value in work.writes.items():
        if table in FAN_CHART_TABLES.values() and value is not None and ChartKey.parse(key) is not None:
            yield from _of_record(from_row(value))


def violations_of_row(work: Work) -> Iterator[str]:
    """What does not hold of a work over a row that may be damaged, which lets the step fail."""
    if work.failure is None:
        yield from violations(work)
    elif [send.topic for send in work.sends] != [topics.DEAD_LETTERS] or work.writes:
        yield "a dead letter does not come alone"


def _of_failure(work: Work) -> Iterator[str]:
    if work.failure is None:
        return
    if work.failure.code not in _CODES:
        yield f"the code {work.failure.code!r} is none of a rejection: {work.failure.reason[:200]}"
    yield from unfit_reason(work.failure.reason)
    if work.writes:
        yield f"a dead letter leaves {len(work.writes)} rows"
    if [send.topic for send in work.sends] != [topics.DEAD_LETTERS]:
        yield "a dead letter does not come alone"


def _of_end(work: Work) -> Iterator[str]:
    """Each step owes an end: outcomes, results, or the dead letter that was looked at before."""
    if work.failure is not None:
        return
    sent = [send.topic for send in work.sends]
    outcomes = [outcome for send in work.sends if (outcome := _outcome(send)) is not None]
    # Of others, who go with it, their readers are told.
    told = [each for each in outcomes if not (isinstance(each, ReadingOutcome) and each.code == EXPIRED)]
    rejects = ending_of(work).startswith(("rejected", "no chart"))
    if work.step.name in ("unify", "request", "infer", "calc", "handle", "window") and not sent:
        yield f"{work.step.name} has neither result, outcome nor dead letter"
    passed_on = topics.READINGS in sent or sent == [topics.ARRIVALS]  # to its own partition; a tick
    if work.step.name == "window" and len(told) != 1 and not passed_on:
        yield f"a reading has {len(told)} outcomes"
    beside = (topics.SCORES, topics.ALERTS)  # of earlier forecasts, and of what this one warns of
    if work.step.name in ("infer", "calc") and len(ends := [topic for topic in sent if topic not in beside]) != 1:
        yield f"{work.step.name} sends {len(ends)} messages for one"
    # With any reading others go who were not heard of for long; of who sends it, it is kept that they were heard of.
    gone = len(told) < len(outcomes)
    left = [write for write in work.writes if not _SEEN.search(write[1])]
    if rejects and left and not gone:
        yield f"what was rejected leaves {len(left)} rows"


def _of_send(send: Send) -> Iterator[str]:
    if send.value is None:
        return
    record = _record(send)
    if isinstance(record, GlucastError):
        yield f"{send.topic.name} gets what is none of its records: {record}"
        return
    if record is not None:
        yield from _of_record(record)
        if isinstance(record, FanChart):
            yield from _of_made(record)
        outcome = _outcome(send)
        if outcome is not None and outcome.reason is not None:
            yield from unfit_reason(outcome.reason)


def _of_record(record: Record | ArrowRecord) -> Iterator[str]:
    values: dict[str, Any] = {}
    if isinstance(record, FanChart):
        values = {"past": record.past_mgdl, "truth": record.truth_mgdl, "median": record.median_mgdl}
        values |= {f"quantile {level}": row for level, row in record.levels()} | {"mean": record.mean_mgdl}
        yield from _of_chart(record)
    elif isinstance(record, ReplayedForecast):
        yield from () if record.chart is None else _of_record(record.chart)
    elif isinstance(record, ForecastWindow):
        values = {"past": [value / CENTI for value in record.past_centi_mgdl]}
        values["truth"] = [None if value is None else value / CENTI for value in record.truth_centi_mgdl]
    elif isinstance(record, Series):
        values = {"series": [value / CENTI for value in record.glucose_centi_mgdl]}
    elif isinstance(record, Reading) and not LOWEST_SENSOR_MGDL <= record.glucose_mgdl <= HIGHEST_MGDL:
        return  # sent on as it came, to where it is judged
    for name, row in values.items():
        wrong = [v for v in row if v is not None and not (math.isfinite(v) and LOWEST_MGDL <= v <= HIGHEST_MGDL)]
        if wrong:
            yield f"{type(record).__name__}: {name} holds {wrong[0]:g} mg/dL"


def _of_chart(chart: FanChart) -> Iterator[str]:
    rows = [chart.median_mgdl, chart.truth_mgdl, *chart.quantiles_mgdl]
    chances = [chart.p_below_54, chart.p_below_70, chart.p_above_180, chart.p_above_250]
    spreads = [chart.epistemic_sd_mgdl, chart.total_sd_mgdl]
    if any(len(row) != HORIZON_STEPS for row in (*rows, *chances, *spreads)):
        yield f"a chart's rows are not all of {HORIZON_STEPS} steps"
    if len(chart.past_mgdl) != PAST_POINTS:
        yield f"a chart's past has {len(chart.past_mgdl)} points"
    if not all(0 <= chance <= 1 for row in chances for chance in row):
        yield "a probability lies outside 0 to 1"
    if not all(0 <= spread < HIGHEST_MGDL for row in spreads for spread in row):
        yield f"a spread lies outside 0 to {HIGHEST_MGDL:.0f} mg/dL"
    if any(list(column) != sorted(column) for column in zip(*(row for _, row in chart.levels()), strict=True)):
        yield "quantiles cross"


def _of_made(chart: FanChart) -> Iterator[str]:
    """Of a chart that was made here, not put back from a file that somebody may have written."""
    rows = [row for _, row in chart.levels()]
    for lower, higher in zip(rows[:MEDIAN], reversed(rows), strict=False):
        if any(high <= low for low, high in zip(lower, higher, strict=True)):
            yield "an interval of the fan has no width"
    if any(own > total + 0.01 for own, total in zip(chart.epistemic_sd_mgdl, chart.total_sd_mgdl, strict=True)):
        yield "the samples alone are spread further than the whole"


def unfit_reason(reason: str) -> Iterator[str]:
    """Why a reason is none that a person understands; nothing for one that is."""
    if len(reason.split()) < 4:
        yield f"a reason of too few words: {reason!r}"
    elif len(reason) > _LONGEST_REASON:
        yield f"a reason of {len(reason)} characters"
    elif found := _UNFIT_FOR_PEOPLE.search(reason):
        yield f"a reason that speaks of {found[0]!r}: {reason[:200]}"


def _record(send: Send) -> Record | ArrowRecord | GlucastError | None:
    kind = RECORDS.get(_name_of(send.topic))
    if kind is None:
        return None
    try:
        return kind.from_arrow(send.value) if issubclass(kind, ArrowRecord) else kind.from_json(send.value)
    except GlucastError as error:
        return error


def _name_of(topic: Topic) -> str:
    return topic.record or ""


def _outcome(send: Send) -> ReadingOutcome | UploadOutcome | RequestOutcome | None:
    if send.topic not in OUTCOMES or send.value is None:
        return None
    record = _record(send)
    return record if isinstance(record, ReadingOutcome | UploadOutcome | RequestOutcome) else None
