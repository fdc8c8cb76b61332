"""The fuzzing bench in short: whatever is sent, each message ends in a way that can be told, and the next one works."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.ingest.files.catalogue import FORMATS
from agents.ingest.files.tables import RESEARCH
from agents.ingest.files.unified_file import Rules, unify_file
from deploy.bench import fuzz, fuzz_cases
from deploy.bench.fuzz_cases import KINDS, case_of, check_complete
from deploy.bench.fuzz_checks import RECORDS, unfit_reason
from deploy.bench.fuzz_files import POINTS, VENDORS, rows_of
from deploy.bench.fuzz_pipeline import GROWTH_MIB, PipelineReport
from deploy.bench.fuzz_rows import PLACES
from deploy.bench.fuzz_values import broken_arrow, broken_json
from schemas.arrow_record import ArrowRecord
from schemas.errors import MalformedRecordError
from schemas.record import Record
from schemas.tables import WATCH_TABLE
from schemas.topics import DEAD_LETTERS, UPLOADS, changelog
from streams.topology import app_id, changelogs

OF_RECORDS = [kind for kind in KINDS if kind.topic.record in RECORDS]


def test_every_table_has_a_step_that_needs_its_rows() -> None:
    assert PLACES.keys() == {topic.name for topic in changelogs()}


async def test_nothing_that_is_sent_breaks_what_must_hold() -> None:
    report = await fuzz.run(seed=1, numbers=range(1000), say=lambda line: None)
    assert report.clean, "\n".join(report.lines())
    assert report.cases == 1000
    assert report.ends.keys() == {kind.topic.name for kind in KINDS}
    for topic, ends in report.ends.items():
        assert ends["processed"] > 0, f"{topic}: of what is broken in one place some is whole enough"
        forgiven = topic == changelog(app_id("calc"), WATCH_TABLE).name  # a row that is none is the beginning
        assert forgiven or ends["processed"] < ends.total(), f"{topic}: not everything is"


def test_a_case_is_the_same_again_and_no_other_seeds() -> None:
    assert [case_of(3, number) for number in range(40)] == [case_of(3, number) for number in range(40)]
    assert [case_of(3, number) for number in range(40)] != [case_of(4, number) for number in range(40)]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(OF_RECORDS), st.integers(0, 2**20), st.integers(0, 2**64))
def test_a_broken_record_is_read_whole_or_refused_in_words(kind: object, number: int, seed: int) -> None:
    assert isinstance(kind, type(KINDS[0]))
    record, chance = kind.good(number, True), random.Random(seed)
    if isinstance(record, ArrowRecord):
        value, about = broken_arrow(record, chance)
        read = type(record).from_arrow
    else:
        assert isinstance(record, Record)
        value, about = broken_json(record.model_dump(mode="json"), chance)
        read = type(record).from_json  # type: ignore[assignment]
    try:
        found = read(value)
    except MalformedRecordError as error:
        reason = str(error)
    else:
        again = found.to_arrow() if isinstance(found, ArrowRecord) else found.to_json()
        assert repr(read(again)) == repr(found)  # a NaN of Arrow is not equal to itself
        return
    assert not list(unfit_reason(reason)), about


@pytest.mark.parametrize("reason", ["", "bad", "ValueError: x is not what it should be", "a b c NoneType d"])
def test_words_for_nobody_are_noticed(reason: str) -> None:
    assert list(unfit_reason(reason))


def test_every_format_that_is_read_has_a_layout_whose_good_file_is_read() -> None:
    found = {name: unify_file(make(rows_of(3)), "UTC", Rules()) for name, make in VENDORS.items()}
    assert {file.format_name for file in found.values()} == {each.name for each in FORMATS} - {
        each.name for each in RESEARCH
    }
    for name, file in found.items():
        assert len(file.centi) == POINTS, name
        nearest = max(abs(a - b) for a, b in zip(file.centi, found["unified"].centi, strict=True))
        assert nearest < 150, f"{name}: the same glucose, as exactly as the format writes it"


def test_a_fifth_of_the_cases_are_files() -> None:
    weights = {kind.topic: kind.weight for kind in KINDS}
    assert 0.18 < weights[UPLOADS] / sum(weights.values()) < 0.25


def test_a_topic_without_a_kind_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    check_complete()
    monkeypatch.setattr(fuzz_cases, "KINDS", [kind for kind in KINDS if kind.topic != DEAD_LETTERS])
    with pytest.raises(KeyError, match=r"no cases for cgm\.dead-letters: add them to KINDS"):
        check_complete()


def test_a_process_that_grows_on_the_way_through_the_pipeline_is_no_clean_run() -> None:
    report = PipelineReport(memory={"calc-0": (200.0, 200.0 + GROWTH_MIB), "api-0": (150.0, 151.0 + GROWTH_MIB)})
    assert not report.clean
    assert "api-0 grows by 65 MiB" in list(report.lines())
    assert PipelineReport(memory={"calc-0": (200.0, 200.0 + GROWTH_MIB)}).clean
