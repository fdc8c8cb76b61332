"""What cgm-format lets pass and nobody's blood holds: impossible glucose and times, a unit that the header denies."""

from typing import TYPE_CHECKING

from schemas.errors import ImplausibleError, TooShortError
from schemas.grid import HIGHEST_MGDL, LOWEST_MGDL

if TYPE_CHECKING:
    import polars as pl

_EARLIEST_YEAR, _LATEST_YEAR = 1900, 2200


def plausible(frame: "pl.DataFrame") -> "pl.DataFrame":
    """Rows with a time, glucose rows with a number.

    Raises `ImplausibleError` for impossible numbers and times, `TooShortError` where no reading is left.
    """
    import polars as pl

    reading = pl.col("event_type") == "EGV_READ"
    frame = frame.with_columns(
        pl.when(pl.col(name).is_finite()).then(pl.col(name)).alias(name) for name in ("glucose", "original_glucose")
    ).filter(pl.col("original_datetime").is_not_null() & (~reading | pl.col("glucose").is_not_null()))
    frame = frame.with_columns(pl.coalesce("original_glucose", "glucose").alias("original_glucose"))
    readings = frame.filter(reading)
    if readings.is_empty():
        raise TooShortError("the file holds no glucose readings: choose a time range with sensor data and export again")
    for name in ("glucose", "original_glucose"):
        _check_glucose(readings[name])
    years = frame["original_datetime"].dt.year()
    if not years.is_between(_EARLIEST_YEAR, _LATEST_YEAR).all():
        raise ImplausibleError(f"the file holds times outside {_EARLIEST_YEAR}..{_LATEST_YEAR}: export it again")
    return frame


def _check_glucose(values: "pl.Series") -> None:
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
    impossible = values.filter(~values.is_between(LOWEST_MGDL, HIGHEST_MGDL))
    if len(impossible):
        raise ImplausibleError(
            f"{len(impossible)} of {len(values)} glucose readings are impossible, the first is {impossible[0]:.0f} "
            f"mg/dL (possible is {LOWEST_MGDL:.0f} to {HIGHEST_MGDL:.0f}): correct or remove them and send it again"
        )
