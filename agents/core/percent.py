"""Shares and chances in percent: none is said to be nothing, or all, that is not."""

_TINY = 1e-9
_FINE = 2
"""Decimals of a number that would be 0 or 100 without them."""


def percent(share: float, decimals: int = 0) -> str:
    """Rounded, and `<1` or `>99` where that would be nothing or all; without the sign."""
    text, least = f"{100 * share:.{decimals}f}", 10.0**-decimals
    if share > 0 and float(text) == 0:
        return f"<{least:.{decimals}f}"
    if share < 1 and float(text) == 100:
        return f">{100 - least:.{decimals}f}"
    return text


def chance_percent(chance: float) -> str:
    """Of what a forecast says: 0 and 1 in it were rounded, and nothing that is to come is certain."""
    return percent(min(max(chance, _TINY), 1 - _TINY))


def fine_percent(share: float) -> str:
    """With a decimal for what comes within a percent of nothing or all."""
    return percent(share, 0 if share in (0, 1) or 0.0095 <= share <= 0.9905 else 1)


def percent_number(share: float, decimals: int | None = None) -> float:
    """As a number, whole without `decimals`; where that would be 0 or 100, and the share is not, with two."""
    number = round(100 * share, decimals)
    if share in (0, 1) or number not in (0, 100):
        return number
    least = 10.0**-_FINE
    return min(max(round(100 * share, _FINE), least), 100 - least)
