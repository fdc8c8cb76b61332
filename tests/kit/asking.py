"""Questions to a role on loopback, asked again and again: without certificates, which would cost 20 ms each time."""

import httpx

from deploy.readiness import NO_CERTIFICATES


def get(url: str, timeout: float = 30.0) -> httpx.Response:
    return httpx.get(url, timeout=timeout, verify=NO_CERTIFICATES)
