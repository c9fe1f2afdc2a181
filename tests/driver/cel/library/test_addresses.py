import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driver.cel.library.addresses import _contains, read_address, read_network

from .conftest import Outcome

ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).filter(
    lambda address: getattr(address, "ipv4_mapped", None) is None
)


@pytest.mark.parametrize(
    "text",
    ["", "1.2.3", "1.2.3.4.5", "01.2.3.4", "256.1.1.1", "1.2.3.4 ", "::ffff:1.2.3.4", "::ffff:102:304",
     "fe80::1%eth0",
     "1::2::3", "12345::", "1:2:3:4:5:6:7:8:9", "1::2:3:4:5:6:7:8", "::01.2.3.4", "٣.1.1.1", "::1/64", ":::"],
)  # fmt: skip
def test_what_is_no_address(outcome: Outcome, text: str) -> None:
    assert outcome(f"isIP('{text}')") == "false"
    assert outcome(f"ip('{text}') == ip('::')") == "evaluation-error"
    assert outcome(f"ip.isCanonical('{text}')") == "evaluation-error"


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("ip('10.0.0.1').family() == 4 && ip('::1').family() == 6", "true"),
        ("ip('2001:DB8::0:1') == ip('2001:db8::1')", "true"),
        ("ip('0.0.0.0') == ip('::')", "false"),
        ("ip.isCanonical('2001:db8::1') && !ip.isCanonical('2001:DB8::1')", "true"),
        ("ip('0.0.0.0').isUnspecified() && ip('::').isUnspecified()", "true"),
        ("ip('127.1.2.3').isLoopback() && ip('::1').isLoopback() && !ip('::2').isLoopback()", "true"),
        ("ip('224.0.0.9').isLinkLocalMulticast() && ip('ff12::1').isLinkLocalMulticast()", "true"),
        ("ip('224.0.1.9').isLinkLocalMulticast() || ip('ff05::1').isLinkLocalMulticast()", "false"),
        ("ip('169.254.1.1').isLinkLocalUnicast() && ip('febf::1').isLinkLocalUnicast()", "true"),
        ("ip('fec0::1').isLinkLocalUnicast()", "false"),
        ("ip('10.0.0.1').isGlobalUnicast() && ip('2001:db8::1').isGlobalUnicast()", "true"),
        ("ip('255.255.255.255').isGlobalUnicast() || ip('239.1.1.1').isGlobalUnicast()", "false"),
        ("ip('ff00::1').isGlobalUnicast() || ip('fe80::1').isGlobalUnicast()", "false"),
        ("ip(device.attributes['d'].s).family() == 4", "evaluation-error"),
        ("ip('::1').size() == 16", "compile-error"),
    ],
)
def test_addresses_know_what_they_are_for(outcome: Outcome, expression: str, expected: str) -> None:
    assert outcome(expression) == expected


@pytest.mark.parametrize(
    "text",
    ["", "1.2.3.4", "1.2.3.4/", "1.2.3.4/33", "::/129", "1.2.3.4/08", "1.2.3.4/+8", "1.2.3.4/-1", "/8",
     "::ffff:1.2.3.0/120",
     "fe80::1%e/64", "10.0.0.0/8/8", "10.0.0.0/8 "],
)  # fmt: skip
def test_what_is_no_network(outcome: Outcome, text: str) -> None:
    assert outcome(f"isCIDR('{text}')") == "false"
    assert outcome(f"cidr('{text}') == cidr('::/0')") == "evaluation-error"


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (
            "cidr('10.0.0.0/8').containsIP('10.1.2.3') && cidr('10.0.0.0/8').containsIP(ip('10.1.2.3'))",
            "true",
        ),
        ("cidr('10.0.0.0/8').containsIP('11.1.2.3') || cidr('0.0.0.0/0').containsIP('::1')", "false"),
        ("cidr('10.0.0.0/8').containsIP('x')", "evaluation-error"),
        ("cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16') && cidr('::/0').containsCIDR(cidr('::/0'))", "true"),
        ("cidr('10.0.0.0/16').containsCIDR('10.0.0.0/8') || cidr('0.0.0.0/0').containsCIDR('::/0')", "false"),
        ("cidr('10.0.0.0/8').containsCIDR('x')", "evaluation-error"),
        ("cidr('10.1.2.3/8') == cidr('10.0.0.0/8')", "false"),
        (
            "cidr('10.1.2.3/8').masked() == cidr('10.0.0.0/8') && cidr('10.1.2.3/8').ip() == ip('10.1.2.3')",
            "true",
        ),
        ("cidr('::1/128').prefixLength() == 128", "true"),
        ("cidr('10.0.0.0/8').containsIP(1)", "compile-error"),
        ("cidr('10.0.0.0/8').containsIP(device.attributes['d'].a)", "evaluation-error"),
    ],
)
def test_networks_contain_addresses_and_networks(outcome: Outcome, expression: str, expected: str) -> None:
    assert outcome(expression) == expected


@given(ADDRESSES, st.integers(0, 128), ADDRESSES)
def test_a_network_contains_what_shares_its_prefix(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
    bits: int,
    other: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    bits = min(bits, address.max_prefixlen)
    network, found = read_network(f"{address}/{bits}"), read_address(str(other))
    assert network is not None
    assert found is not None
    assert _contains(network, found) is (other in ipaddress.ip_network(f"{address}/{bits}", strict=False))


@given(st.text(alphabet="0123456789abcdef:./%", max_size=20))
def test_any_text_is_an_address_or_not(text: str) -> None:
    assert read_address(text) is None or ipaddress.ip_address(text) is not None
