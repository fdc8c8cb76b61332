"""Where a webhook may lead: addresses of the internet, in whatever form, and what an operator has allowed."""

from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.notify.addresses import is_allowed, is_public, networks_of, parsed
from streams.notify.sender import why_refused

INSIDE = [
    "127.0.0.1", "127.8.8.8", "0.0.0.1", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254",
    "100.64.0.1", "192.0.0.170", "192.0.2.1", "198.18.0.1", "198.51.100.7", "203.0.113.9", "224.0.0.1", "239.1.1.1",
    "240.0.0.1", "255.255.255.255",
    "::1", "::", "fe80::1", "fe80::1%eth0", "fec0::1", "fc00::1", "fd12:3456::1", "ff02::1", "2001:db8::1", "3fff::1",
    "100::1", "5f00::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:10.0.0.1", "::127.0.0.1", "::10.0.0.1",
    "64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b::10.0.0.1", "64:ff9b:1::8.8.8.8",
    "2002:7f00:1::1", "2002:c0a8:101::1",
]  # fmt: skip
OUTSIDE = ["8.8.8.8", "172.32.0.1", "2606:4700::1111", "2a00:1450:4001::200e", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"]


@pytest.mark.parametrize("address", INSIDE)
def test_what_only_this_machine_or_network_reaches_is_refused(address: str) -> None:
    assert not is_public(parsed(address))
    assert "not public" in (why_refused(address, encrypted=True, networks=()) or "")


@pytest.mark.parametrize("address", OUTSIDE)
def test_the_internet_is_reached_and_only_encrypted(address: str) -> None:
    assert is_public(parsed(address))
    assert why_refused(address, encrypted=True, networks=()) is None
    assert "use https" in (why_refused(address, encrypted=False, networks=()) or "")


@pytest.mark.parametrize("address", ["192.168.1.9", "::ffff:192.168.1.9", "64:ff9b::192.168.1.9", "fd00::9"])
def test_an_allowed_network_is_reached_in_every_form_and_also_in_the_clear(address: str) -> None:
    networks = networks_of(["192.168.1.0/24", "fd00::/8"])
    assert why_refused(address, encrypted=False, networks=networks) is None
    assert not is_allowed(parsed("192.168.2.9"), networks)


def test_what_is_no_network_is_said_so() -> None:
    with pytest.raises(ValueError, match=r"192\.168\.1\.0/33"):
        networks_of(["192.168.1.0/33"])


@given(st.ip_addresses(v=4))
def test_an_address_is_judged_alike_in_every_form_that_carries_it(address: IPv4Address) -> None:
    forms = [f"::ffff:{address}", f"64:ff9b::{address}"]
    assert {is_public(parsed(form)) for form in forms} == {is_public(address)}
    assert not is_public(parsed(f"::{address}")) or is_public(address)
