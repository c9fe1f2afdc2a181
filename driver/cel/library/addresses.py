"""IP addresses and networks: Kubernetes' libraries for them.

Purpose: `ip("10.0.0.1").family()`, `cidr("10.0.0.0/8").containsIP("10.1.2.3")`.

Flow: overloads on `driver.cel.values.Address` and `Network`.

Limits: no zones and no IPv4 addresses mapped into IPv6; octets have no leading zeros.
"""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from driver.cel.errors import EvaluationError
from driver.cel.library import costs
from driver.cel.library.entry import overload
from driver.cel.values import Address, Network

_LONGEST = 64
_BITS = re.compile(r"0|[1-9][0-9]{0,2}")
_MAPPED = 0xFFFF << 32


def _read(text: str) -> int:
    return costs.traversed(len(text)) + costs.READ


def read_address(text: str) -> Address | None:
    """Read an IP address; None where it is none."""
    if len(text) > _LONGEST or "%" in text:
        return None
    try:
        if ":" not in text:
            return Address(int(IPv4Address(text)), 32)
        number = int(IPv6Address(text))
    except AddressValueError:
        return None
    return None if number & ~0xFFFFFFFF == _MAPPED else Address(number, 128)


def read_network(text: str) -> Network | None:
    """Read an IP address with the length of a prefix; None where it is none."""
    written, slash, bits = text.rpartition("/")
    address = read_address(written) if slash else None
    if address is None or not _BITS.fullmatch(bits) or int(bits) > address.length:
        return None
    return Network(address, int(bits))


def _required(text: str) -> Address:
    address = read_address(text)
    if address is None:
        raise EvaluationError(f"{text[:64]!r} is not an IP address")
    return address


def _required_network(text: str) -> Network:
    network = read_network(text)
    if network is None:
        raise EvaluationError(f"{text[:64]!r} is not a network address")
    return network


def _text(address: Address) -> str:
    return str(IPv4Address(address.number) if address.length == 32 else IPv6Address(address.number))


overload("ip(string) -> ip", cost=_read)(_required)
overload("cidr(string) -> cidr", cost=_read)(_required_network)
overload("string(ip) -> string", folds=True)(_text)


@overload("string(cidr) -> string", folds=True)
def _network_text(network: Network) -> str:
    return f"{_text(network.address)}/{network.bits}"


@overload("isIP(string) -> bool", cost=_read)
def _is_ip(text: str) -> bool:
    return read_address(text) is not None


@overload("isCIDR(string) -> bool", cost=_read)
def _is_cidr(text: str) -> bool:
    return read_network(text) is not None


@overload("ip.isCanonical(string) -> bool", cost=lambda text: 2 * _read(text))
def _is_canonical(text: str) -> bool:
    return _text(_required(text)) == text


@overload("family(ip) -> int", method=True)
def _family(address: Address) -> int:
    return 4 if address.length == 32 else 6


@overload("isUnspecified(ip) -> bool", method=True)
def _is_unspecified(address: Address) -> bool:
    return address.number == 0


@overload("isLoopback(ip) -> bool", method=True)
def _is_loopback(address: Address) -> bool:
    return address.number >> 24 == 127 if address.length == 32 else address.number == 1


@overload("isLinkLocalMulticast(ip) -> bool", method=True)
def _is_link_local_multicast(address: Address) -> bool:
    if address.length == 32:
        return address.number >> 8 == 0xE00000
    return address.number >> 112 & 0xFF0F == 0xFF02


@overload("isLinkLocalUnicast(ip) -> bool", method=True)
def _is_link_local_unicast(address: Address) -> bool:
    return address.number >> 16 == 0xA9FE if address.length == 32 else address.number >> 118 == 0x3FA


@overload("isGlobalUnicast(ip) -> bool", method=True)
def _is_global_unicast(address: Address) -> bool:
    if address.length == 32:
        apart = address.number == 0xFFFFFFFF or address.number >> 28 == 0xE
    else:
        apart = address.number >> 120 == 0xFF
    return not (apart or _is_unspecified(address) or _is_loopback(address) or _is_link_local_unicast(address))


@overload("ip(cidr) -> ip", method=True)
def _address(network: Network) -> Address:
    return network.address


@overload("prefixLength(cidr) -> int", method=True)
def _prefix_length(network: Network) -> int:
    return network.bits


@overload("masked(cidr) -> cidr", method=True)
def _masked(network: Network) -> Network:
    return Network(_kept(network.address, network.bits), network.bits)


def _kept(address: Address, bits: int) -> Address:
    behind = address.length - bits
    return Address(address.number >> behind << behind, address.length)


def _bytes(network: Network) -> int:
    return -(-network.bits // 8)


def _ip_cost(network: Network, other: object) -> int:
    return costs.traversed(2 * _bytes(network)) + (_read(other) if isinstance(other, str) else 0)


def _cidr_cost(network: Network, other: object) -> int:
    return _ip_cost(network, other) + costs.traversed(_bytes(network)) + 1


@overload("containsIP(cidr, string) -> bool", method=True, cost=_ip_cost)
def _contains_text(network: Network, text: str) -> bool:
    return _contains(network, _required(text))


@overload("containsIP(cidr, ip) -> bool", method=True, cost=_ip_cost)
def _contains(network: Network, address: Address) -> bool:
    return _kept(network.address, network.bits) == (
        _kept(address, network.bits) if address.length == network.address.length else None
    )


@overload("containsCIDR(cidr, string) -> bool", method=True, cost=_cidr_cost)
def _contains_network_text(network: Network, text: str) -> bool:
    return _contains_network(network, _required_network(text))


@overload("containsCIDR(cidr, cidr) -> bool", method=True, cost=_cidr_cost)
def _contains_network(network: Network, other: Network) -> bool:
    return network.bits <= other.bits and _contains(network, other.address)
