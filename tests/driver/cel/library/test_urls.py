import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driver.cel.library.go_urls import UrlError, parameters, parse

from .conftest import Outcome


@pytest.mark.parametrize(
    ("text", "parts_of_it"),
    [
        ("http://example.com", ("http", "example.com", "", "")),
        ("HTTPS://Example.com:80/a", ("https", "Example.com:80", "80", "/a")),
        ("http://[::1]:80/", ("http", "[::1]:80", "80", "/")),
        ("http://[fe80::1%25eth0]/", ("http", "[fe80::1%eth0]", "", "/")),
        ("http://u:p@h:/a b", ("http", "h:", "", "/a%20b")),
        ("/path", ("", "", "", "/path")),
        ("//host/path", ("", "host", "", "/path")),
        ("mailto:a@b", ("mailto", "", "", "")),
        ("http://h/a%2fb", ("http", "h", "", "/a%2fb")),
        ("http://h/日本", ("http", "h", "", "/%E6%97%A5%E6%9C%AC")),
        ("http://h/a#b", ("http", "h", "", "/a")),
        ("ftp://a:b:80/", ("ftp", "a:b:80", "80", "/")),
        ("*", ("", "", "", "*")),
        ("file:///etc", ("file", "", "", "/etc")),
        ("http://%c3%a9/", ("http", "é", "", "/")),
    ],
)
def test_the_parts_of_a_url(outcome: Outcome, text: str, parts_of_it: tuple[str, str, str, str]) -> None:
    scheme, host, port, path = parts_of_it
    parts = f"url(x).getScheme() == '{scheme}' && url(x).getHost() == '{host}'"
    rest = f"url(x).getPort() == '{port}' && url(x).getEscapedPath() == '{path}'"
    assert outcome(f"cel.bind(x, '{text}', isURL(x) && {parts} && {rest})") == "true"


@pytest.mark.parametrize(
    "text",
    [
        *("", "a", "://x", ":", "http://h:abc/", "http://a:b:c/", "http://[::1", "http://[1.2.3.4]/"),
        *("http://[::1]a/", "http://h/%zz", "http://h/%", "http://%41/", "http://h\\u007f/", "1http://x"),
        *("ht tp://x", "http://ex ample/", "http://u[@h/", "http://[::1%25]/", "/a/c%zz"),
    ],
)
def test_what_is_no_url(outcome: Outcome, text: str) -> None:
    assert outcome(f"isURL('{text}')") == "false"
    assert outcome(f"url('{text}') == url('/')") == "evaluation-error"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("x=1&x=2&y=%41+b", {"x": ["1", "2"], "y": ["A b"]}),
        ("z;q=1&&=e&n", {"": ["e"], "n": [""]}),
        ("a=%zz&b=1", {"b": ["1"]}),
        ("a=b=c", {"a": ["b=c"]}),
        ("", {}),
        ("%ff=1", {"\ufffd": ["1"]}),
        ("&".join(["a"] * 10_001), {}),
    ],
)
def test_the_parameters_of_a_query(query: str, expected: dict[str, list[str]]) -> None:
    assert parameters(query) == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("url('http://h/?x=1').getQuery() == {'x': ['1']} && url('http://h/').getQuery() == {}", "true"),
        ("url('http://[::1]:80/').getHostname() == '::1' && url('http://h:1/').getHostname() == 'h'", "true"),
        ("url('HTTP://h/%7E') == url('http://h/%7E')", "true"),
        ("url('http://h/%7E') == url('http://h/~')", "false"),
        ("url('http://h/#') == url('http://h/')", "true"),
        ("url('http://h/?') == url('http://h/')", "false"),
        ("isURL(device.attributes['d'].a)", "evaluation-error"),
    ],
)
def test_urls_are_equal_if_their_texts_are(outcome: Outcome, expression: str, expected: str) -> None:
    assert outcome(expression) == expected


@given(st.text(alphabet="ab:/?#[]@!%20 .1é", max_size=20))
def test_any_text_is_a_url_or_not_and_its_own_text_is_one_again(text: str) -> None:
    with contextlib.suppress(UrlError):
        parse(text, request=True)
        found = parse(text, request=False)
        if found.escaped_path:
            assert parse(found.text, request=False).text == found.text
