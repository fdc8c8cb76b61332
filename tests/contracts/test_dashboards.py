"""Dashboards, alerts and scrape targets ask for what there is: metrics, labels, their values, services and ports."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pytest
import yaml

from schemas.alert import AlertKind, AlertStatus
from schemas.grid import STEP_MINUTES
from schemas.lanes import LANES
from schemas.metrics import EVENTS, METRICS, REQUESTS, EventOutcome, LaneOutcome, Metric
from schemas.score_state import SCORED_STEPS
from streams import topology
from streams.settings import Settings
from tests.kit import promql

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy/prometheus"
GRAFANA = ROOT / "deploy/grafana"

TARGET_LABELS = frozenset({"job", "instance"})
"""What Prometheus adds to every series that it scrapes."""
SUFFIXES = {
    "counter": ("_total", "_created"),
    "gauge": ("",),
    "histogram": ("_bucket", "_count", "_sum", "_created"),
}


def labels_by_series() -> dict[str, frozenset[str]]:
    """Every series that a query may ask for, and its labels. ``up`` is Prometheus' own."""
    found = {"up": TARGET_LABELS}
    for metric in METRICS:
        for suffix in SUFFIXES[metric.kind]:
            bounds = {"le"} if suffix == "_bucket" else set()
            found[metric.name + suffix] = TARGET_LABELS | set(metric.labels) | bounds
    return found


SERIES = labels_by_series()
COUNTING = frozenset(name for name in SERIES if name.endswith(("_total", "_bucket", "_count", "_sum")))


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


SCRAPES = load(PROMETHEUS / "prometheus.yml")
JOBS = {job["job_name"]: job for job in SCRAPES["scrape_configs"]}
SERVICES = load(ROOT / "deploy/compose.yaml")["services"]
VALUES: dict[str, set[str]] = {
    "job": set(JOBS),
    "step": {step.name for step in topology.STEPS},
    "topic": {topic.name for topic in topology.all_topics()},
    "lane": set(LANES),
    "kind": set(get_args(AlertKind)),
    "status": {*get_args(AlertStatus)} | {str(status) for status in range(100, 600)},
    "minutes_ahead": {str(step * STEP_MINUTES) for step in SCORED_STEPS},
    "percent": {"50", "80", "90", "95"},
}
"""Of labels whose values are known; an outcome depends on the metric."""
OUTCOMES = {f"{EVENTS.name}_total": get_args(EventOutcome), f"{REQUESTS.name}_total": get_args(LaneOutcome)}


class Question(NamedTuple):
    """An expression, and the labels that the words beside it name."""

    where: str
    expression: str
    named: frozenset[str]


def dashboards() -> list[Path]:
    return sorted(GRAFANA.glob("*.json"))


def panels(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text())["panels"]
    return found


def rules() -> list[dict[str, Any]]:
    return [
        rule for name in SCRAPES["rule_files"] for group in load(PROMETHEUS / name)["groups"] for rule in group["rules"]
    ]


def questions() -> Iterator[Question]:
    for path in dashboards():
        for panel in panels(path):
            for target in panel["targets"]:
                named = frozenset(re.findall(r"{{\s*(\w+)\s*}}", target["legendFormat"]))
                yield Question(f"{path.name}: {panel['title']}", target["expr"], named)
    for rule in rules():
        named = frozenset(re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())))
        yield Question(rule["alert"], rule["expr"], named)


def wrong_with(question: Question) -> list[str]:
    """What an expression asks for that there is not."""
    query = promql.parse(question.expression)
    found: list[str] = []
    for each in query.selectors:
        labels = SERIES.get(each.series)
        if labels is None:
            found.append(f"no metric {each.series}")
            continue
        known = VALUES | {"outcome": set(OUTCOMES.get(each.series, ()))}
        found += [f"{each.series} has no label {label}" for label in ({*each.matchers} | query.grouped) - labels]
        found += [
            f"{label} is never {value}"
            for label, values in each.matchers.items()
            for value in values
            if label in known and value not in known[label]
        ]
        if (each.function in ("rate", "increase")) != (each.series in COUNTING):
            found.append(f"{each.function} does not go with {each.series}")
        if query.kept is None and (missing := question.named - labels):
            found.append(f"{each.series} has no label to show: {sorted(missing)}")
    if query.kept is not None and (missing := question.named - query.kept):
        found.append(f"by leaves no label {sorted(missing)}")
    return found


@pytest.mark.parametrize("question", list(questions()), ids=lambda question: question.where)
def test_a_question_asks_for_metrics_and_labels_of_the_catalogue(question: Question) -> None:
    assert wrong_with(question) == []


@pytest.mark.parametrize(
    ("expression", "wrong"),
    [
        ("sum(glucast_lagg)", "no metric glucast_lagg"),
        ("sum(rate(glucast_events[5m]))", "no metric glucast_events"),
        ("sum(rate(glucast_lag_total[5m]))", "no metric glucast_lag_total"),
        ("glucast_lag{lane='live'}", None),
        ('glucast_lag{lane="live"}', "glucast_lag has no label lane"),
        ("sum by (step) (glucast_lag)", "glucast_lag has no label step"),
        ('glucast_lag{topic=~"cgm.readings|cgm.none"}', "topic is never cgm.none"),
        ('rate(glucast_events_total{outcome="answered"}[5m])', "outcome is never answered"),
        ('rate(glucast_events_total{step="infer",outcome="lost"}[5m])', "outcome is never lost"),
        ('up{job="query"}', "job is never query"),
        ("rate(glucast_lag[5m])", "rate does not go with glucast_lag"),
        ("sum(glucast_http_requests_total)", "sum does not go with glucast_http_requests_total"),
        ("histogram_quantile(0.95, sum by (le) (rate(glucast_batch_seconds_sum[5m])))", "has no label le"),
        ("rate(glucast_requests_total)", None),
        ("glucast_lag[5m]", None),
        ("sum(glucast_lag", None),
        ("sum(glucast_lag))", None),
        ("summ(glucast_lag)", None),
        ("glucast_lag{topic}", None),
        ("glucast_lag ~ 3", None),
        ("", None),
    ],
)
def test_a_wrong_question_is_found(expression: str, wrong: str | None) -> None:
    question = Question("", expression, frozenset())
    if wrong is None:
        with pytest.raises(ValueError):  # noqa: PT011 - whatever is wrong with it, it is no question
            promql.parse(expression)
    else:
        assert any(wrong in found for found in wrong_with(question))


@pytest.mark.parametrize("named", ["lane", "step", "topic"])
def test_words_name_only_labels_that_are_left(named: str) -> None:
    question = Question("", "sum by (job) (glucast_lag)", frozenset({named}))
    assert wrong_with(question) == [f"by leaves no label ['{named}']"]


def test_of_every_role_that_does_not_answer_somebody_is_told() -> None:
    """Of notify nobody was: with it go the alerts, and its own metrics, by which the other rules would tell."""
    asked = [each for rule in rules() for each in promql.parse(rule["expr"]).selectors if each.series == "up"]
    assert {job for each in asked for job in each.matchers["job"]} == set(JOBS)


def test_every_metric_that_a_person_waits_for_is_on_the_dashboard() -> None:
    asked = {each.series for question in questions() for each in promql.parse(question.expression).selectors}
    unseen = [metric.name for metric in METRICS if not asked & _series(metric)]
    # What is looked up where something is wrong, at a process's own /metrics.
    assert sorted(unseen) == [
        "glucast_computations",
        "glucast_deliveries",
        "glucast_deliveries_waiting",
        "glucast_engine",
        "glucast_event_clients",
        "glucast_handles",
        "glucast_in_flight",
        "glucast_notify_skipped",
        "glucast_outstanding",
        "glucast_pictures_drawn",
        "glucast_pictures_reused",
        "glucast_read_model_skipped",
        "glucast_seconds_per_sample",
        "glucast_waiters",
    ]


def _series(metric: Metric) -> set[str]:
    return {metric.name + suffix for suffix in SUFFIXES[metric.kind]}


@pytest.mark.parametrize("path", dashboards(), ids=lambda path: path.name)
def test_a_dashboard_asks_the_chosen_prometheus_and_has_its_panels_side_by_side(path: Path) -> None:
    dashboard = json.loads(path.read_text())
    variables = {variable["name"]: variable for variable in dashboard["templating"]["list"]}
    assert (variables["datasource"]["type"], variables["datasource"]["query"]) == ("datasource", "prometheus")
    assert "not for treatment decisions" in dashboard["description"]
    assert set(re.findall(r"\$\{?(\w+)", path.read_text())) <= {*variables, "__rate_interval"}
    taken: Counter[tuple[int, int]] = Counter()
    for panel in dashboard["panels"]:
        sources = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
        assert sources == [{"type": "prometheus", "uid": "${datasource}"}] * len(sources)
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        columns, lines = range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
        taken.update((column, line) for column in columns for line in lines)
        assert panel["title"]
        assert panel["description"].endswith(".")
    assert set(taken.values()) == {1}
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)


def test_alerts_say_what_is_wrong_and_how_bad_that_is() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(set(names)) == len(names)
    for rule in rules():
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert set(rule["annotations"]) == {"summary", "description"}
        assert re.fullmatch(r"\d+[smh]", rule.get("for", "1m"))


def test_prometheus_scrapes_every_role_where_compose_lets_it_answer() -> None:
    roles = {name for name in SERVICES if name not in ("kafka", "topics")}
    assert set(JOBS) == roles
    assert {*topology.WORKER_ROLES, "notify", "api"} == roles
    for name, job in JOBS.items():
        assert set(job) == {"job_name", "static_configs"}  # the path is /metrics, which is Prometheus' default
        environment = SERVICES[name]["environment"]
        if name != "api":
            assert environment["GLUCAST_HEALTH_HOST"] == "0.0.0.0"  # noqa: S104
            port = environment["GLUCAST_HEALTH_PORT"]
        else:
            assert "--host 0.0.0.0" in SERVICES[name]["command"]
            port = Settings.model_fields["port"].default
        assert job["static_configs"] == [{"targets": [f"{name}:{port}"]}]
