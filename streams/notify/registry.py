"""Which webhooks there are and how each does: the file of webhooks and the topic ``cgm.webhooks``, brought together."""

import datetime
from collections.abc import Iterable, Mapping

from schemas.webhook import Webhook
from streams.notify.schedule import LONGEST_BREAK, NOTED_EVERY, has_failed_too_long
from streams.notify.webhook_file import Endpoint

Changes = dict[str, Webhook | None]
"""Records to publish by key; None deletes."""


class Registry:
    """Pure: methods return what has to be published; what was published comes back by `follow`, from all replicas."""

    def __init__(self, disable_hours: float) -> None:
        self._disable_hours = disable_hours
        self._endpoints: dict[str, Endpoint] = {}
        self._states: dict[str, Webhook] = {}

    @property
    def states(self) -> Mapping[str, Webhook]:
        """How each webhook does."""
        return self._states

    def active(self) -> list[Endpoint]:
        """Those that are sent to."""
        return [endpoint for name, endpoint in self._endpoints.items() if self._is_enabled(name)]

    def _is_enabled(self, name: str) -> bool:
        state = self._states.get(name)
        return state is None or state.disabled_at is None

    def knows(self, endpoint: Endpoint) -> bool:
        """Whether the file still has this webhook, and no other one by its name."""
        return self._endpoints.get(endpoint.name) == endpoint

    def load(self, endpoints: Iterable[Endpoint], now: datetime.datetime) -> Changes:
        """The file as it is now."""
        self._endpoints = {endpoint.name: endpoint for endpoint in endpoints}
        changes: Changes = {name: None for name in self._states if name not in self._endpoints}
        for name, endpoint in self._endpoints.items():
            known = self._states.get(name)
            wanted = endpoint.public(known, now)
            if known is None or wanted != known.model_copy(update={"updated_at": now}):
                changes[name] = wanted
        self._apply(changes)
        return changes

    def follow(self, name: str, state: Webhook | None) -> None:
        """What a process has published. What is known already to be different by now does not count."""
        endpoint, known = self._endpoints.get(name), self._states.get(name)
        if state is None:
            if endpoint is None:
                self._states.pop(name, None)
            return
        if known is not None and state.updated_at <= known.updated_at:
            return  # our own words, coming back
        if endpoint is None or state.added_at >= endpoint.begins_at:
            self._states[name] = state

    def succeeded(self, name: str, now: datetime.datetime) -> Changes:
        """A delivery was made."""
        state = self._states.get(name)
        if state is None or (state.failing_since is None and state.reason is None):
            return {}
        return self._apply({name: _changed(state, now, failing_since=None, failed_at=None, reason=None)})

    def failed(self, name: str, reason: str, now: datetime.datetime) -> Changes:
        """An attempt failed; after too long a time of it the webhook is disabled.

        Two failures with nothing to send between them are no such time: what had failed was over, or ended.
        """
        state = self._states.get(name)
        if state is None or state.disabled_at is not None:
            return {}
        since = _failing_since(state, now)
        if has_failed_too_long(since, now, self._disable_hours):
            return self.disabled(name, f"nothing could be delivered since {since:%Y-%m-%d %H:%M} UTC: {reason}", now)
        is_known = (state.failing_since, state.reason) == (since, reason)
        if is_known and state.failed_at is not None and now - state.failed_at < NOTED_EVERY:
            return {}
        return self._apply({name: _changed(state, now, failing_since=since, failed_at=now, reason=reason)})

    def disabled(self, name: str, reason: str, now: datetime.datetime) -> Changes:
        """Nothing is sent any more."""
        state = self._states.get(name)
        if state is None or state.disabled_at is not None:
            return {}
        since = _failing_since(state, now)
        return self._apply(
            {name: _changed(state, now, failing_since=since, failed_at=now, disabled_at=now, reason=reason)}
        )

    def _apply(self, changes: Changes) -> Changes:
        for name, state in changes.items():
            if state is None:
                self._states.pop(name, None)
            else:
                self._states[name] = state
        return changes


def _failing_since(state: Webhook, now: datetime.datetime) -> datetime.datetime:
    """Since when attempts fail without a break, now that one did. An earlier version notes when the first did alone."""
    last = state.failed_at or state.failing_since
    if state.failing_since is None or last is None or now - last > LONGEST_BREAK:
        return now
    return state.failing_since


def _changed(state: Webhook, now: datetime.datetime, **changes: object) -> Webhook:
    return state.model_copy(update={**changes, "updated_at": now})
