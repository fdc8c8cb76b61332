"""A broker with topics and the pipeline; the browser is a real one."""

from tests.kit.fixtures import broker, pipeline, settings  # noqa: F401 - fixtures
