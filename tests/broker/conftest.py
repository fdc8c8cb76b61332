"""An embedded broker without topics."""

from tests.kit.fixtures import broker  # noqa: F401 - a fixture
