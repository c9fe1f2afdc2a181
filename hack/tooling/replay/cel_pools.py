"""Texts and literals that generated selectors are made of.

Purpose: for each kind of text that a function reads, values at and beyond the edges of what it accepts; and
small damage, which finds the edges that nobody thought of.

Limits: no exponent beyond three digits in quantities: the reference does not come back from the largest, and
ours refuses them by design.
"""

from __future__ import annotations

import random
import re

GOOD = 12
"""The first of each pool are mostly what the function accepts."""

INTS = (
    *("0", "1", "-1", "2", "3", "5", "7", "10", "17", "64", "100", "-7", "255", "1000000", "0x1F", "-0x10"),
    *("4294967296", "9223372036854775807", "-9223372036854775808", "-9223372036854775807"),
)
UINTS = (
    *("0u", "1u", "2u", "3u", "10u", "255u", "0xFFu", "9223372036854775808u", "18446744073709551615u", "7U"),
)
DOUBLES = (
    *("0.0", "-0.0", "1.0", "1.5", "-2.5", "0.1", "3.0", "1e3", "1e10", "1e-7", "1.7976931348623157e308"),
    *("5e-324", "9007199254740993.0", "9223372036854775807.0", "1e19", "123456.789", "-1e21"),
    *("100000000000000000000.0", 'double("NaN")', 'double("Infinity")', 'double("-Inf")', ".5", "2.e1"),
)
BYTES = ('b""', 'b"abc"', 'b"\\xff\\x00"', "b'\\303\\277'", 'b"ÿ"', 'b"caf\\u00e9"', 'b"""a\nb"""', 'br"\\n"')

WORDS = (
    *("", "a", "abc", "abc-123", "A100", "H100-SXM5", "fish", "bird", " padded ", "tacocat", "Straße", "ÀÉ"),
    *("日本語", "a,b,c", "a--b--c", ",,", "x=1;y=2", "line1\nline2", "tab\there", 'quote"d', "back\\slash"),
    *("\u00a0nbsp", "😀", "gpu.example.com", "eu-1", "true", "null", "1", "007", "k\u0301", "İ", "ﬁ"),
    *("\u2028", "\x00", "zzz", "Aa"),
)
NUMBERS = (
    *("0", "1", "42", "007", "5", "12", "100", "255", "9", "3", "77", "64"),
    *("-1", "+1", "1.5", "1e3", "1e400", "NaN", "nan", "Inf", "-inf", "Infinity", "infinity", "", " 1", "1 "),
    *("0x10", "9223372036854775807", "9223372036854775808", "-9223372036854775808", "1_000", "0b1"),
    *("18446744073709551615", "18446744073709551616", "1.", ".5", "1u", "abc", "1e-400", "0x1p-2", "\u0661"),
)
BOOLS = (
    *("true", "false", "True", "TRUE", "t", "T", "f", "F", "1", "0", "FALSE", "False"),
    *("yes", "", "tRuE", " true", "no", "on"),
)
QUANTITIES = (
    *("0", "1", "1.5", "100m", "1k", "1Ki", "1Mi", "1.5Gi", "40Gi", "80Gi", "200M", "0.2G", "1e3", "-1"),
    *("1K", "1E3", "1E", "1e-3", "+5", "5.", ".5", ".", "", "1n", "1u", "0.0000000001"),
    *("9223372036854775807", "8Ei", "9Ei", "16E", "1e18", "1e19", "1e27", "abc", "1 Gi", "1gi", "12Ki5"),
    *("1.2.3", "-0", "-1.5Gi", "1Pi", "3.7m", "1e30", "1e", "0.5Ki", "1000000n", "1073741824", "1000m"),
    *("0.1m", "99999999999999999999", "0x1", "9223372036854775808", "-9223372036854775808", "-1e19"),
    *("0.001Ki", "1.0000000001", "1e-9", "1e-10", "999999999999n"),
)
VERSIONS = (
    *("1.2.3", "0.0.0", "1.10.0", "1.9.0", "1.2.3-alpha.1", "1.2.3-alpha.beta", "1.2.3-1", "1.2.3-rc.1+b7"),
    *("1.2.3+x", "2.0.0", "1.0.0-x-y-z.--", "18446744073709551615.0.0", "1.2.3-0a", "1.2.3+001", "v1.2.3"),
    *("1.2", "v1", "01.2.3", "1.02.3", "1.2.3-", "1.2.3-01", "1.2.3+", "", "a.b.c", "1.2.3.4", "1..3"),
    *("-1.2.3", "18446744073709551616.0.0", "9223372036854775808.1.1", " 1.2.3", "V1.2.3", "1.2.3-é"),
    *("vv1.2.3", "v01.02", "1.2.3-0", "00.0", "1-a", "1.2-a+b"),
)
ADDRESSES = (
    *("127.0.0.1", "10.0.0.1", "0.0.0.0", "255.255.255.255", "224.0.0.1", "169.254.169.254", "::", "::1"),  # noqa: S104 - nothing is bound to it
    *("10.0.0.0", "2001:db8::abcd", "2001:DB8::ABCD", "fe80::1", "ff02::1", "192.168.0.1", "fd00::1"),
    *("2001:db8:0:0:0:0:0:1", "fe80::1%eth0", "ff01::1", "224.0.1.1", "::ffff:1.2.3.4", "::1.2.3.4"),
    *("192.168.000.1", "1.2.3", "1.2.3.4.5", "", ":::1", "1::2::3", "12345::", "::g", "1.2.3.4 "),
    *("0x7f.1.1.1", "::ffff:0:0", "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7::", "64:ff9b::1.2.3.4", "192.168.1.255"),
    *("239.255.255.250", "ff0e::1", "fec0::1", "256.1.1.1"),
)
NETWORKS = (
    *("10.0.0.0/8", "192.168.0.0/16", "192.168.0.1/16", "0.0.0.0/0", "::/0", "::1/128", "2001:db8::/32"),
    *("10.0.0.1/32", "192.168.1.0/24", "192.168.1.128/25", "fe80::/10", "2001:DB8::/32", "127.0.0.0/8"),
    *("1.2.3.4/0", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/08", "10.0.0.0", "/8", "10.0.0.0/8/8"),
    *("::ffff:1.2.3.0/120", "10.0.0.0/+8", "fe80::%eth0/10", "", "1.2.3/8", "::/129"),
)
URLS = (
    *("https://user:pass@example.com:80/path?query=val#fragment", "https://example.com"),
    *("https://example.com/", "/", "/absolute/path", "https://[::1]:80/", "https://[::1]"),
    *("https://example.com:/x", "https://example.com/with space", "https://example.com/a%20b?k=v&k=w&x"),
    *("https://example.com/path?k 1=v 2", "https://example.com/?a=%41&b=+&c", "relative/path", "../x"),
    *("http://", "https://example.com/%zz", "", "https:", "//h/p", "HTTP://EXAMPLE.com", "*", "mailto:a@b.c"),
    *("1http://x", "https://example.com?x=1&&y", "/a?b=c;d=e", "/p#f", "https://h/a/../b", "https://a:b:c/"),
    *("https://exa mple.com", "https://example.com:99999/", "https://é.example/ü?ß=1"),
    *("https://[fe80::1%25en0]/", "file:///etc/x", "https://h:port/", "https://h/%2Fa%2f", "https://h/é%C3"),
    "/?a=%zz&b=1",
)
DURATIONS = (
    *("0", "1s", "1m", "1h", "1h2m3s", "1.5h", "-1.5h", "100ms", "1us", "90s", "1ns", "3600s", "", "1", "s"),
    *("1d", "+1s", "1h-2m", "1µs", "2562047h47m16.854775807s", "2562048h", "0s", "-0s", ".5s", "1.s", "1e3s"),
    *("1h 2m", "0.000000001s", "87600h", "315576000000s", "1.0000000001s", "00012s"),
)
TIMES = (
    *("2024-02-29T12:34:56Z", "1970-01-01T00:00:00Z", "2009-02-13T23:31:30.123456789Z"),
    *("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2024-06-15T10:00:00+02:00"),
    *("2024-06-15T10:00:00-07:30", "2024-06-15T10:00:00.5Z", "2024-12-31T23:59:59.999Z"),
    *("2024-03-10T10:30:00Z", "2024-11-03T05:59:59Z", "1969-12-31T23:59:59.9Z", "2023-02-29T00:00:00Z"),
    *("10000-01-01T00:00:00Z", "0000-01-01T00:00:00Z", "", "2024-06-15T10:00:00", "2024-01-01"),
    *("2024-06-15t10:00:00z", "2024-06-15T24:00:00Z", "2024-6-15T1:0:0Z", "2024-06-15T10:00:60Z"),
    *("2024-06-15 10:00:00Z", "2024-06-15T10:00:00,5Z", "2024-06-15T10:00:00+24:00"),
    *("2024-06-15T10:00:00+0200", "2024-06-15T1:00:00Z"),
)
ZONES = (
    *("UTC", "", "America/New_York", "Europe/Berlin", "Asia/Kolkata", "+02:00", "-07:30", "02:00", "Local"),
    *("Nowhere/City", "+2:00", "+02", "-00:30", "+24:00", "23:59", "Z", "utc", "America/Los_Angeles"),
    *("Pacific/Chatham", "00:00", "+aa:bb"),
)
PATTERNS = (
    *("a", "^a", "c$", "[0-9]+", "[A-Z]\\d", ".*", "", "(a|b)+", "(?i)abc", "\\bfish\\b", "a{2,3}", "x*"),
    *("(", "[", "a{1001}", "(?P<n>a)", "\\pL+", "(?s).+", "(?=a)", "\\1", "[[:alpha:]]+", "\\d{3}$", "^$"),
    *("a++", "\\Q.\\E", "(?:ab)?c", "é", "\\x{e9}", "*", "\\", "[a-", "(?<n>a)", "\\C", "(?U)a+", "\\z"),
    *("\\Z", "[^\\n]", "|", "a||b", "(?m)^l", "\\s", "\\w+-\\d+", "$^"),
)
FORMATS = (
    *("%s", "%d", "%f", "%e", "%b", "%x", "%X", "%o", "%%", "%.2f", "%.0f", "%.3e", "%s and %s", "no verb"),
    *("%", "%q", "%5d", "%-s", "%.s", "%.10f", "%s%s%s", "%d%%", "%.1f|%.1f", "%v", "%c", "%.1d", "%x-%X"),
    *("%s %d %f", "%.1000f", "%ss", "% d", "%.6e"),
)
NAMES = (
    *("my-name", "My-Name", "-x", "x-", "a.b.c", "a..b", "a_b", "1abc", "abc1", "", "x" * 63, "x" * 64),
    *("x" * 253, "x" * 254, "example.com/name", "example.com/", "/name", "a/b/c", "prefix-", "sub.prefix.-"),
    *("é", "a b", "A_b.c-9", "_x", "x.", "*.x", "123e4567-e89b-12d3-a456-426614174000"),
    *("123E4567-E89B-12D3-A456-426614174000", "123e4567e89b12d3a456426614174000", "aGVsbG8=", "aGVsbG8"),
    *("aGVs bG8=", "====", "aGVs\nbG8=", "2021-01-01", "2021-02-30", "2021-1-1", "2021-01-01T00:00:00Z"),
    *("2021-01-01T00:00:00", "2021-01-01 00:00:00Z", "http://example.com", "/abs", "rel"),
    *("2021-01-01T00:00:00.123+01:00", "x\n"),
)
FORMAT_NAMES = (
    *("dns1123Label", "dns1123Subdomain", "dns1035Label", "qualifiedName", "dns1123LabelPrefix"),
    *("dns1123SubdomainPrefix", "dns1035LabelPrefix", "labelValue", "uri", "uuid", "byte", "date"),
    *("datetime", "nothing", "", "UUID"),
)
SEPARATORS = (",", "-", "", "--", "b", " ", "\n", ".", "é", "a", "zz")

_SIMPLE = '"'
_EXPONENT = re.compile(r"[eE][+-]?\d{4,}")
_INTERESTING = "0159aAbzEeiIkKmMGTPn.,:;-+%/\\[]()*? éß😀\t_vV#@&="


def damaged(text: str, rng: random.Random) -> str:
    """One character more, less or different; a quarter of the texts get it."""
    if rng.random() >= 0.25:
        return text
    place = rng.randrange(len(text) + 1)
    kind = rng.randrange(4)
    if kind == 0 or not text:
        changed = text[:place] + rng.choice(_INTERESTING) + text[place:]
    elif kind == 1:
        changed = text[:place] + text[place + 1 :]
    elif kind == 2:
        changed = text[:place] + rng.choice(_INTERESTING) + text[place + 1 :]
    else:
        changed = text[:place] + text[max(0, place - 2) : place] + text[place:]
    return text if _EXPONENT.search(changed) else changed


def quoted(text: str, rng: random.Random) -> str:
    """A string literal: mostly in plain double quotes, at times in another of the forms that CEL has."""
    form = rng.randrange(10)
    simple = all(character >= " " and character not in "\"'\\" for character in text)
    if form == 0 and simple:
        return f"'{text}'"
    if form == 1 and "\r" not in text and "\x00" not in text and simple:
        return f'r"{text}"'
    if form == 2 and simple:
        return f'"""{text}"""'
    if form == 3:
        return _SIMPLE + "".join(_escaped(character) for character in text) + _SIMPLE
    out = []
    for character in text:
        if character in '"\\':
            out.append("\\" + character)
        elif character in _SHORT:
            out.append(_SHORT[character])
        elif character < " ":
            out.append(f"\\x{ord(character):02x}")
        else:
            out.append(character)
    return _SIMPLE + "".join(out) + _SIMPLE


_SHORT = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}


def _escaped(character: str) -> str:
    code = ord(character)
    if code < 0x80:
        return f"\\{code:03o}" if code % 2 else f"\\x{code:02X}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08X}"
