"""What cgm-format lets pass and nobody's blood holds: impossible glucose and times, a unit that the header denies."""

from typing import TYPE_CHECKING

from schemas.errors import ImplausibleError, TooShortError
from schemas.grid import HIGHEST_MGDL, LOWEST_MGDL, LOWEST_SENSOR_MGDL

if TYPE_CHECKING:
    import polars as pl

_EARLIEST_YEAR, _LATEST_YEAR = 1900, 2200
_MOST_CODES = 0.5
"""The share of a file's readings that may be codes: where more are that low, they are rather in another unit."""


def is_code(mgdl: "pl.Expr") -> "pl.Expr":
    """Whether glucose in mg/dL is lower than a sensor shows: a code that stands for an error (`LOWEST_SENSOR_MGDL`).

    By the value alone, whatever the file's unit: its 5 mmol/L are 90 mg/dL by now, and 2.1 mmol/L is what a program
    makes of 38. Words such as ``Low`` are no codes: they are read as 39.
    """
    return (mgdl > 0) & (mgdl < LOWEST_SENSOR_MGDL)


def plausible(
    frame: "pl.DataFrame", older: "pl.DataFrame | None" = None
) -> tuple["pl.DataFrame", "pl.Series", list[str]]:
    """Rows with a time, glucose rows with a number that is no code; the times of all; what has to be said about codes.

    `older`: readings of the file that are not among the rows, with `wall` and `mgdl`: they are judged alike.

    Raises `ImplausibleError` for impossible numbers and times, `TooShortError` where no reading is left.
    """
    import polars as pl

    if older is None:
        older = pl.DataFrame(schema={"wall": pl.Datetime("ms"), "mgdl": pl.Float64})

    reading = pl.col("event_type") == "EGV_READ"
    frame = frame.with_columns(
        pl.when(pl.col(name).is_finite()).then(pl.col(name)).alias(name) for name in ("glucose", "original_glucose")
    ).filter(pl.col("original_datetime").is_not_null() & (~reading | pl.col("glucose").is_not_null()))
    frame = frame.with_columns(pl.coalesce("original_glucose", "glucose").alias("original_glucose"))
    readings, past = frame.filter(reading), older.filter(pl.col("mgdl").is_finite())
    if readings.is_empty():
        raise TooShortError("the file holds no glucose readings: choose a time range with sensor data and export again")
    for name in ("glucose", "original_glucose"):
        _check_unit(pl.concat([past["mgdl"], readings[name]]))
    coded = reading & (is_code(pl.col("glucose")) | is_code(pl.col("original_glucose")))
    codes = frame.filter(coded).height + past.filter(is_code(pl.col("mgdl"))).height
    count = readings.height + past.height
    if codes > _MOST_CODES * count:
        raise ImplausibleError(
            f"{codes} of {count} glucose readings are below {LOWEST_SENSOR_MGDL:.0f} mg/dL, which no sensor "
            "shows: check the unit in the vendor's software and export again"
        )
    if codes:
        frame, past = frame.filter(~coded), past.filter(~is_code(pl.col("mgdl")))
        readings = frame.filter(reading)
    for name in ("glucose", "original_glucose"):
        _check_glucose(pl.concat([past["mgdl"], readings[name]]))
    times = pl.concat([past["wall"].cast(frame["original_datetime"].dtype), frame["original_datetime"]])
    if not times.dt.year().is_between(_EARLIEST_YEAR, _LATEST_YEAR).all():
        raise ImplausibleError(f"the file holds times outside {_EARLIEST_YEAR}..{_LATEST_YEAR}: export it again")
    return frame, times, [_told(codes)] if codes else []


def _told(codes: int) -> str:
    what = "1 reading was" if codes == 1 else f"{codes} readings were"
    return (
        f"SENSOR_ERROR: {what} left out: below {LOWEST_SENSOR_MGDL:.0f} mg/dL a sensor shows no glucose, but sends "
        "codes of its errors"
    )


def _check_unit(values: "pl.Series") -> None:
    mean = float(values.mean() or 0.0)  # type: ignore[arg-type]
    if mean > HIGHEST_MGDL:
        raise ImplausibleError(
            f"the mean glucose would be {mean:.0f} mg/dL: the values look like mg/dL under a mmol/L header; "
            "set the unit in the vendor's software and export again"
        )
    if 0 < mean < LOWEST_MGDL:
        raise ImplausibleError(
            f"the mean glucose would be {mean:.1f} mg/dL: the values look like mmol/L under a mg/dL header; "
            "set the unit in the vendor's software and export again"
        )


def _check_glucose(values: "pl.Series") -> None:
    impossible = values.filter(~values.is_between(LOWEST_MGDL, HIGHEST_MGDL))
    if len(impossible):
        raise ImplausibleError(
            f"{len(impossible)} of {len(values)} glucose readings are impossible, the first is {impossible[0]:.0f} "
            f"mg/dL (possible is {LOWEST_MGDL:.0f} to {HIGHEST_MGDL:.0f}): correct or remove them and send it again"
        )
