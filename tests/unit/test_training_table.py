"""The table of recordings: the stream's own grid, windows that end at readings, targets that were measured."""

import datetime
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from agents.core.past_hours import add, hours_before
from agents.core.rolling_window import RollingWindow, place
from agents.core.slot_windows import window
from agents.training.studies import GLUCOBENCH_HALL, cut, judged_by, licence_of
from agents.training.table import Person, Pool, read_people
from schemas.errors import ConfigurationError
from schemas.grid import CENTI, PAST_HOURS, STEP_SECONDS

START = datetime.datetime(2026, 1, 5, 0, 2, 10)


def table(path: Path, *people: pl.DataFrame) -> Path:
    pl.concat(people).write_parquet(path)
    return path


def readings(
    minutes: list[float], mgdl: list[float], subject: str = "one", study: str = "study", step: int = 5
) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "dataset": study,
            "subject": subject,
            "diabetes": "T1D",
            "step_min": step,
            "time": [START + datetime.timedelta(minutes=each) for each in minutes],
            "mg_dl": mgdl,
        }
    )


def person(count: int, step: int = 5, study: str = "study", subject: str = "one") -> Person:
    """Readings every `step` minutes, a sawtooth without jumps."""
    measured = np.arange(count) % (step // 5) == 0
    level = (120 + 40 * np.abs((np.arange(count) / 20) % 2 - 1)).astype(np.float32)
    return Person(study, subject, "T1D", step, 5_000_000, level, measured)


def test_points_are_those_of_the_streams_window(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    minutes, at = [], 0.0
    for _ in range(400):
        minutes.append(at)
        at += float(rng.choice([5, 5, 5, 10, 15, 2.4, 4.6, 5.4], p=[0.4, 0.2, 0.1, 0.05, 0.05, 0.05, 0.05, 0.1]))
    mgdl = np.round(120 + np.cumsum(rng.normal(0, 2, 400)), 2).clip(40, 400).tolist()
    (found,) = read_people(table(tmp_path / "t.parquet", readings(minutes, mgdl)))
    stream = RollingWindow({}, late_slots=0)
    compared = 0
    for offset, (minute, value) in enumerate(zip(minutes, mgdl, strict=True)):
        time = (START + datetime.timedelta(minutes=minute)).replace(tzinfo=datetime.UTC)
        slot, held = place(time, value, offset)
        stream.accept(slot, held)
    for slot in sorted(stream.slots):
        issue = window(stream.slots, slot)
        if issue is None:
            continue
        end = slot - found.first
        centi = np.round(found.mgdl[end - 95 : end + 1].astype(np.float64) * CENTI).astype(int)
        assert centi.tolist() == issue.past_centi
        compared += 1
    assert compared > 5


def test_the_hours_before_a_window_are_those_of_the_stream() -> None:
    rng = np.random.default_rng(4)
    people = []
    for number in range(2):
        measured = rng.random(2600) > 0.1
        measured[700:1100] = False
        level = np.where(measured, np.round(120 + 30 * rng.random(2600), 2), np.nan).astype(np.float32)
        people.append(Person("study", f"{number}", "T1D", 5, 5_000_003 + 7 * number, level, measured))
    pool = Pool.of([*people, person(300)])
    assert len(pool) == 300 - 95 - 1  # noise jumps: nobody would be given a forecast
    ends = np.concatenate([np.arange(95, 2600, 11), 2600 + 12 + np.arange(95, 2600, 11)])
    every = replace(pool, ends=ends, owner=np.repeat([0, 1], ends.size // 2))
    found = every.hours_before(np.arange(ends.size))
    for row, end in enumerate(ends):
        one = people[every.owner[row]]
        sums: dict[int, tuple[int, int]] = {}
        known = np.flatnonzero(one.measured)
        add(sums, ((one.first + int(at), round(float(one.mgdl[at]) * CENTI)) for at in known))
        wanted = hours_before(sums, int(every.slot[end]))
        centi = [None if np.isnan(each) else round(float(each) * CENTI) for each in found[row]]
        assert centi == [None] * (PAST_HOURS - len(wanted)) + wanted


def test_of_two_readings_in_a_slot_the_nearer_holds_it(tmp_path: Path) -> None:
    (found,) = read_people(table(tmp_path / "t.parquet", readings([0, 2.5, 3.4, 8], [100, 110, 120, 130])))
    assert found.mgdl.tolist() == [100, 110, 130]  # 20 s before its slot is nearer than 34 s after it


def test_a_gap_over_15_minutes_stays_open_and_no_window_reaches_over_it(tmp_path: Path) -> None:
    minutes = [5.0 * slot for slot in range(300) if slot not in (150, 151, 152, 250, 251)]
    (found,) = read_people(table(tmp_path / "t.parquet", readings(minutes, [120.0] * len(minutes))))
    assert np.flatnonzero(np.isnan(found.mgdl)).tolist() == [150, 151, 152]
    ends = set(found.ends.tolist())
    assert {95, 149, 153 + 95, 249} <= ends
    assert not ends & {94, 150, 153, 153 + 94, 250, 251, 299}


def test_windows_end_at_readings_and_targets_that_nobody_measured_are_missing() -> None:
    pool = Pool.of([person(400, step=15)])
    assert pool.end_times(np.arange(3)).astype(int).tolist() == [
        (5_000_000 + end) * STEP_SECONDS for end in (96, 99, 102)
    ]
    future = pool.future(np.arange(len(pool)))
    assert np.isfinite(future[0]).tolist() == [False, False, True] * 4
    # Every interpolated point of a past lies between two readings of that past: the rest of the recording is not in it.
    owner = pool.people[0]
    for end in owner.ends:
        assert owner.measured[end]


def test_a_window_after_a_jump_that_no_body_makes_is_left_out() -> None:
    one = person(300)
    level = one.mgdl.copy()
    level[200] += 60.0
    jumped = Person("study", "one", "T1D", 5, 0, level, one.measured)
    assert set(one.ends) - set(jumped.ends) == {200, 201, 202, 203}


def test_a_pool_never_joins_two_people() -> None:
    people = [person(150), person(120, subject="two")]
    pool = Pool.of(people)
    assert len(pool) == 149 - 95 + 119 - 95
    last = pool.future(np.array([149 - 95 - 1]))[0]
    assert np.isfinite(last).tolist() == [True] + [False] * 11
    for row in range(len(pool)):
        owner = people[pool.owner[row]]
        end = int(pool.end_times(np.array([row]))[0].astype(int)) // STEP_SECONDS - owner.first
        assert np.array_equal(pool.past(np.array([row]))[0], owner.mgdl[end - 95 : end + 1])
    assert pool.examples().person[-1] == "study/two"
    with pytest.raises(ValueError, match="96 unbroken points"):
        Pool.of([person(90)])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda rows: rows.drop("step_min"), "is no table with"),
        (lambda rows: rows.with_columns(mg_dl=pl.lit(5.0)), "outside 20..600"),
        (lambda rows: rows.with_columns(mg_dl=pl.lit(None, pl.Float64)), "may be missing"),
        (lambda rows: rows.with_columns(time=pl.lit("noon")), "is no table with"),
        (lambda rows: pl.concat([rows, rows.with_columns(step_min=pl.lit(15))]), "more than one step_min"),
        (lambda rows: rows.head(0), "must hold readings"),
    ],
)
def test_a_table_that_lacks_something_says_what(tmp_path: Path, change, words: str) -> None:
    path = tmp_path / "t.parquet"
    change(readings([0, 5], [100, 110])).write_parquet(path)
    with pytest.raises(ConfigurationError, match=words):
        read_people(path)


def test_no_table_at_all(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="--data takes a Parquet table with dataset"):
        read_people(tmp_path / "none.parquet")
    (tmp_path / "text.parquet").write_text("no table")
    with pytest.raises(ConfigurationError, match="is no table with"):
        read_people(tmp_path / "text.parquet")


def test_nobody_serves_two_purposes_and_a_study_held_out_serves_none() -> None:
    people = [person(200, study=study, subject=f"{n}") for study in ("AZT1D", "HUPA-UCM") for n in range(10)]
    people += [person(200, step=15, study="AZT1D", subject="slow"), person(200, study="Hall_2018", subject="2133-017")]
    parts = cut(people)
    assert len(parts.calibrate) == 4
    assert {one.study for one in parts.calibrate} == {"AZT1D", "HUPA-UCM"}
    names = [one.name for one in (*parts.train, *parts.calibrate)]
    assert len(names) == len(set(names)) == 21
    assert not set(names) & GLUCOBENCH_HALL
    without = cut(people, held_out="AZT1D")
    assert {one.study for one in (*without.train, *without.calibrate)} == {"HUPA-UCM"}
    assert [one.name for one in without.calibrate] == [
        one.name for one in parts.calibrate if one.study == "HUPA-UCM"
    ]  # who is kept back of a study does not depend on which other is held out
    assert len(judged_by(people, "AZT1D")) == 10


def test_the_licence_names_the_terms_of_every_study() -> None:
    studies = [person(10, study=study) for study in ("AZT1D", "BIGIDEAs")]
    assert licence_of(studies) == "CC-BY-4.0 AND ODC-By-1.0"
    assert licence_of([person(10, study="mine")]) == "LicenseRef-unknown"
