"""To which addresses a webhook may lead: public ones, and what an operator allows.

A URL that somebody hands in must not reach what only this machine reaches: its own ports, its network, a cloud's
metadata (169.254.169.254). An IPv6 address that carries an IPv4 one is judged by that one too, because a translator
would go there.
"""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_UNICAST = IPv6Network("2000::/3")
"""All that IANA has given out for use in the internet; RFC 4291."""
_NAT64 = IPv6Network("64:ff9b::/96")
"""RFC 6052: the last 32 bits are an IPv4 address. 64:ff9b:1::/48 (RFC 8215) is for networks of one's own."""
_COMPATIBLE = IPv6Network("::/96")
"""RFC 4291, long out of use: the last 32 bits are an IPv4 address."""
_NOT_PUBLIC: tuple[Network, ...] = (
    IPv4Network("0.0.0.0/8"), IPv4Network("192.0.0.0/24"), IPv4Network("192.88.99.0/24"), IPv4Network("240.0.0.0/4"),
    IPv6Network("2001::/23"), IPv6Network("2001:db8::/32"), IPv6Network("3fff::/20"),
)  # fmt: skip
"""IANA's special purposes that `ipaddress` calls global or does not know, Teredo among them; RFC 6890, RFC 9637."""


def networks_of(texts: Iterable[str]) -> tuple[Network, ...]:
    """Raises ValueError for what is no network."""
    return tuple(ip_network(text) for text in texts)


def parsed(text: str) -> Address:
    """An address as sockets have it, perhaps with a zone. Raises ValueError."""
    return ip_address(text.partition("%")[0])


def is_allowed(address: Address, networks: Iterable[Network]) -> bool:
    """Whether an operator has allowed this address, in whatever form it comes."""
    return any(form in network for network in networks for form in _forms(address) if form.version == network.version)


def is_public(address: Address) -> bool:
    """Whether this is an address in the internet, of one receiver, and so is each that it carries."""
    return all(_is_public(form) for form in _meant(address))


def _forms(address: Address) -> tuple[Address, ...]:
    inner = _carried(address)
    return (address,) if inner is None else (address, inner)


def _meant(address: Address) -> tuple[Address, ...]:
    """Of a mapped or translated address only the IPv4 one is a place; of 6to4 both are."""
    inner = _carried(address)
    if inner is None:
        return (address,)
    mapped = isinstance(address, IPv6Address) and (address.ipv4_mapped is not None or address in _NAT64)
    return (inner,) if mapped else (address, inner)


def _carried(address: Address) -> IPv4Address | None:
    if isinstance(address, IPv4Address):
        return None
    if address in _NAT64 or (address in _COMPATIBLE and int(address) > 1):
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv6Address) and address not in _UNICAST:
        return False
    if any(address in network for network in _NOT_PUBLIC if network.version == address.version):
        return False
    return address.is_global and not address.is_multicast
