"""Log lines for people (console) or machines (JSON), without payloads, and without floods while a broker is away."""

import logging
import sys
import time
from typing import Any

import structlog

from streams.settings import Settings

_LIBRARIES = ("aiokafka", "faust", "mode", "asyncio")
_QUIET_SECONDS = 10.0


class RateLimit(logging.Filter):
    """Lets a library's message pass once in ten seconds; the next one tells how many were left out.

    aiokafka writes thousands of lines a second while a broker is away. Messages are told apart by their unformatted
    text, so offsets and node numbers in them do not matter.
    """

    def __init__(self, quiet_seconds: float = _QUIET_SECONDS) -> None:
        super().__init__()
        self._quiet_seconds = quiet_seconds
        self._last: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        key = (record.name, str(record.msg)[:80])
        now = time.monotonic()
        last, skipped = self._last.get(key, (float("-inf"), 0))
        if now - last < self._quiet_seconds:
            self._last[key] = (last, skipped + 1)
            return False
        if len(self._last) > 500:
            self._last.clear()
        self._last[key] = (now, 0)
        if skipped:
            record.msg = f"{record.msg} ({skipped} more like this)"
        return True


class NoPayloads(logging.Filter):
    """Keeps messages and events out of what libraries log: keys and values are health data."""

    _PLAIN = (str, int, float, bool, type(None), BaseException, frozenset)

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(self._plain(item) for item in record.args)
        elif isinstance(record.args, dict):
            record.args = {name: self._plain(item) for name, item in record.args.items()}
        return True

    def _plain(self, item: Any) -> Any:
        if isinstance(item, self._PLAIN) or type(item).__name__ in ("TP", "TopicPartition", "URL"):
            return item if not isinstance(item, str) else item[:500]
        return f"<{type(item).__name__}>"


def configure(settings: Settings) -> None:
    """Set up structlog and the standard library's logging for this process."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso" if settings.log_format == "json" else "%H:%M:%S", utc=True),
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            pad_event_to=0,
            # the pretty ones print local variables: keys, people, glucose
            exception_formatter=structlog.dev.plain_traceback,
        )
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=logging.getLogger,  # structlog's own puts its class in the place of any library's, for all
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                renderer,
            ]
            if settings.log_format == "json"
            else [structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    level = settings.log_level.upper()
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    if settings.log_level != "debug":
        for name in _LIBRARIES:
            logging.getLogger(name).setLevel(logging.WARNING)
    handler.addFilter(_ForLibraries(NoPayloads()))
    handler.addFilter(_ForLibraries(RateLimit()))


class _ForLibraries(logging.Filter):
    """Applies a filter to the libraries' records only."""

    def __init__(self, inner: logging.Filter) -> None:
        super().__init__()
        self._inner = inner

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.split(".", 1)[0] in _LIBRARIES:
            return bool(self._inner.filter(record))
        return True
