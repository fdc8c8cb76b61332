"""Keys of the fan-chart table: a sample of a handle, or one of the last forecasts of a subject."""


def handle_prefix(handle: str) -> str:
    return f"handle/{handle}/"


def handle_key(handle: str, index: int) -> str:
    return f"handle/{handle}/{index}"


def subject_key(subject_id: str, slot: int, history_steps: int) -> str:
    """A ring: a forecast takes the row of the one `history_steps` slots before it. Subject ids hold no slash."""
    return f"subject/{subject_id}/{slot % history_steps}"
