"""Which names this service is asked under, and which web pages may ask: from the headers Host and Origin.

A page of somebody else's can let its own name point to this machine (DNS rebinding): its browser then takes what we
answer for that page's own. So a name has to be known. Addresses cannot be pointed anywhere.
"""

import ipaddress
import re
from typing import Literal

from starlette.datastructures import Headers

_HOST = r"(?:\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?::\d{1,5})?"
_IS_HOST = re.compile(_HOST)
_IS_ORIGIN = re.compile(rf"[a-z][a-z0-9+.-]*://({_HOST})")
EVERY_HOST = "*"

Fault = Literal["malformed_host", "malformed_origin", "foreign_host", "foreign_origin"]


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address or name."""
    address = _address(host)
    return host.lower() == "localhost" if address is None else address.is_loopback


class Origins:
    """Judges requests by two of their headers."""

    def __init__(self, hosts: tuple[str, ...], origins: tuple[str, ...], only_local: bool) -> None:
        """`hosts` are further names, or `*`; `origins` further web pages; `only_local` closes other addresses too."""
        self._hosts = frozenset(host.lower() for host in hosts)
        self._origins = frozenset(origins)
        self._only_local = only_local

    def fault(self, headers: Headers, http_version: str) -> Fault | None:
        """What is wrong with the names of a request. Never raises, whatever stands there."""
        hosts, origin = headers.getlist("host"), headers.get("origin")
        if len(hosts) > 1 or (not hosts and http_version == "1.1"):
            return "malformed_host"
        host = hosts[0] if hosts else "localhost"
        if not _IS_HOST.fullmatch(host):
            return "malformed_host"
        if not self._is_served(host):
            return "foreign_host"
        if not origin or origin in self._origins:
            return None
        page = _IS_ORIGIN.fullmatch(origin)
        if page is None and origin != "null":
            return "malformed_origin"
        return None if page is not None and page[1] == host else "foreign_origin"

    def _is_served(self, host: str) -> bool:
        name = re.sub(r":\d+$", "", host).strip("[]").lower()
        if is_loopback(name) or name in self._hosts or EVERY_HOST in self._hosts:
            return True
        return _address(name) is not None and not self._only_local


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None
