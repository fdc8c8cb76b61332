"""The README's producer and consumer, as they stand there, against a broker."""

import asyncio
import contextlib
import io
import re
from pathlib import Path
from typing import Any

import confluent_kafka
import pytest
from confluent_kafka import Producer

from schemas import topics
from schemas.reading import Reading
from streams.kafka.whole_topics import everything
from streams.settings import Settings
from tests.kit.brokers import embedded
from tests.kit.charts import fan_chart

README = Path(__file__).parents[2] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
(PRODUCER,) = [block for block in BLOCKS if "Producer(" in block]
(CONSUMER,) = [block for block in BLOCKS if "Consumer(" in block]


class EnoughError(Exception):
    """The consumer has had its messages: it would go on for ever."""


def run(block: str, settings: Settings) -> str:
    """What a block prints, with this broker for the one that it names."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(EnoughError):
        exec(compile(block.replace("127.0.0.1:9092", settings.broker), "README.md", "exec"), {})  # noqa: S102  ours
    return printed.getvalue()


async def readings(settings: Settings) -> list[Any]:
    return [record async for record in everything(settings, topics.READINGS.name)]


def test_the_producers_reading_is_one_under_its_subject(tmp_path: Path) -> None:
    with embedded(tmp_path) as settings:
        run(PRODUCER, settings)
        (record,) = asyncio.run(readings(settings))
        reading = Reading.from_json(record.value)
        assert (record.key, reading.subject_id) == (b"anna", "anna")


def test_the_consumer_shows_each_served_forecast_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of charts on trial, of samples and of repeats it says nothing."""
    charts = [
        fan_chart(),
        fan_chart(),
        fan_chart(chart_id="1" * 64, model_serves=False),
        fan_chart(chart_id="2" * 64, kind="sample", handle="e" * 64, index=0),
        fan_chart(chart_id="3" * 64, subject_id="bert", series_key="bert"),
    ]

    class Limited(confluent_kafka.Consumer):
        """Reads what is there from the beginning, and ends."""

        def __init__(self, where: dict[str, Any]) -> None:
            super().__init__(where | {"auto.offset.reset": "earliest"})
            self.left, self.silent = len(charts), 0

        def poll(self, timeout: float) -> Any:
            message = None if self.left == 0 else super().poll(timeout)
            self.silent += message is None
            if self.left == 0 or self.silent > 60:
                self.close()
                raise EnoughError
            self.left -= message is not None and not message.error()
            return message

    monkeypatch.setattr(confluent_kafka, "Consumer", Limited)
    with embedded(tmp_path) as settings:
        producer = Producer({"bootstrap.servers": settings.broker, "partitioner": "murmur2_random"})
        for chart in charts:
            producer.produce(topics.FAN_CHARTS.name, key=chart.series_key, value=chart.to_json())
        assert producer.flush(30) == 0
        lines = run(CONSUMER, settings).splitlines()
    assert sorted(line.split()[0] for line in lines) == ["anna", "bert"]
