"""Addresses that requests of pipelines may go to: public ones, and private ones by allow-list.

An address that carries another one (NAT64, 6to4 and so on) is judged by that one as well. Addresses
that give instances of a cloud their credentials are refused whatever is allowed.
"""

from collections.abc import Iterator, Sequence
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

type Address = IPv4Address | IPv6Address
type Network = IPv4Network | IPv6Network

#: Metadata services: AWS, ECS and EKS, Azure, Google, Alibaba, Oracle, Scaleway.
METADATA: frozenset[Address] = frozenset(
    ip_address(one)
    for one in (
        *("169.254.169.254", "169.254.170.2", "169.254.170.23", "168.63.129.16", "169.254.42.42"),
        *("100.100.100.200", "192.0.0.192", "fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254"),
        "fd00:42::42",
    )
)

_COMPATIBLE = ip_network("::/96")
_WELL_KNOWN_NAT64 = ip_network("64:ff9b::/96")
_NAT64 = (_WELL_KNOWN_NAT64, ip_network("64:ff9b:1::/48"))
#: The only unicast addresses of IPv6 that are assigned to anybody of the public network.
_UNICAST = ip_network("2000::/3")
_DOCUMENTATION = ip_network("3fff::/20")
_ISATAP = (0x00005EFE, 0x02005EFE)
_LOW_32 = 0xFFFFFFFF


def refusal(address: Address, allowed: Sequence[Network]) -> str | None:
    """Why an address may not be connected to, None where it may."""
    for one in (address, *carried(address)):
        if one in METADATA:
            return f"{address} is a metadata address"
        if not _is_public(one) and not any(_is_in(one, network) for network in allowed):
            return f"{address} is no public address, and not in PIPELINE_ALLOWED_NETWORKS"
    return None


def carried(address: Address) -> Iterator[IPv4Address]:
    """The IPv4 addresses that an IPv6 address carries, by whichever scheme."""
    if isinstance(address, IPv4Address):
        return
    number = int(address)
    if address.ipv4_mapped is not None:
        yield address.ipv4_mapped
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo
    in_low = address in _COMPATIBLE and number > 1  # ::1 is loopback
    in_low = in_low or any(address in network for network in _NAT64)
    if in_low or (number >> 32) & _LOW_32 in _ISATAP:
        yield IPv4Address(number & _LOW_32)


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv6Address):
        # What is in no list of the library's counts as global: site-local, translated, segments.
        assigned = address in _UNICAST and address not in _DOCUMENTATION
        return (assigned or address in _WELL_KNOWN_NAT64) and address.is_global
    # Multicast counts as global.
    return address.is_global and not address.is_multicast


def _is_in(address: Address, network: Network) -> bool:
    return address.version == network.version and address in network
