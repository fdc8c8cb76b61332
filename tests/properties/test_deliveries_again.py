"""Whatever happens to deliveries: their records make the queue again, nothing stale is sent, nothing ends twice."""

import datetime
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.webhook import WAITING, Delivery
from streams.notify.events import event_of_alert, event_of_chart
from streams.notify.outbox import Outbox
from tests.kit.alerts import NOW, alert, endpoint
from tests.kit.charts import fan_chart

MINUTE = datetime.timedelta(minutes=1)
MOST = 4
TO = [endpoint("all"), endpoint("outcomes", events=["outcome"]), endpoint("annas", subject_id="anna")]
ACTS = st.one_of(
    st.tuples(st.just("raised"), st.integers(1, 5), st.sampled_from(["anna", "bert"])),
    st.tuples(st.just("false"), st.integers(1, 5), st.sampled_from(["anna", "bert"])),
    st.tuples(st.just("chart"), st.integers(1, 5), st.sampled_from(["anna", "bert"])),
    st.tuples(st.sampled_from(["deliver", "fail"]), st.integers(0, 2), st.just("")),
    st.tuples(st.just("erase"), st.just(0), st.sampled_from(["anna", "bert"])),
    st.tuples(st.just("wait"), st.sampled_from([1, 10, 40]), st.just("")),
)


class Play:
    """An outbox with a clock, and all records that it made."""

    def __init__(self) -> None:
        self.outbox, self.now, self.records = Outbox(MOST), NOW, list[Delivery]()

    def act(self, what: str, number: int, whose: str) -> None:
        made: list[Delivery] = []
        if what in ("raised", "false"):
            digest = f"{number}{whose[0]}".encode().hex().ljust(64, "0")
            told = alert(alert_id=digest, status=what, subject_id=whose, issue_time=self.now)
            made = self.outbox.plan(event_of_alert(told, self.now), 0, TO, self.now)
        elif what == "chart":
            chart_id = f"{number}{whose[0]}{self.now.minute}".encode().hex().ljust(64, "0")
            chart = fan_chart(chart_id=chart_id, subject_id=whose, series_key=whose, issue_time=self.now)
            event = event_of_chart(chart, self.now)
            assert event is not None
            made = self.outbox.plan(event, 0, TO, self.now)
        elif what in ("deliver", "fail"):
            name = TO[number].name
            made = [record for _, record in self.outbox.expire(name, self.now)]
            item = self.outbox.next(name)
            if item is not None:
                assert item.delivery.valid_until > self.now, "what no longer holds is not sent"
                status = "delivered" if what == "deliver" else "failing"
                made.append(self.outbox.tried(item, status, self.now, None, None))
        elif what == "erase":
            made = self.outbox.erase(whose, self.now, 0, self.now)
        else:
            self.now += number * MINUTE
        self.records += made
        self.outbox.release(made)


def waiting(outbox: Outbox) -> dict[str, tuple[int, str | None]]:
    """What each webhook would be sent, with how often it was tried: takes it all out."""
    found = {}
    for to in TO:
        while (item := outbox.next(to.name)) is not None:
            found[item.delivery.delivery_id] = item.delivery.attempts, item.delivery.body
            outbox.tried(item, "delivered", NOW, None, None)
    return found


@settings(max_examples=150, deadline=None)
@given(st.lists(ACTS, max_size=25))
def test_records_make_the_queue_again(acts: list[tuple[str, int, str]]) -> None:
    play = Play()
    for act in acts:
        play.act(*act)
        assert play.outbox.count() <= MOST * len(TO)
    queued = Counter(record.delivery_id for record in play.records if record.status == "queued")
    ended = Counter(record.delivery_id for record in play.records if record.status not in WAITING)
    assert not queued or max(queued.values()) == 1, "an event makes one delivery"
    assert not ended or max(ended.values()) == 1, "a delivery ends once"
    assert not any(record.body for record in play.records if record.status != "queued")
    again = Outbox(MOST)
    again.restore(0, play.records, play.now)
    assert waiting(again) == waiting(play.outbox)
