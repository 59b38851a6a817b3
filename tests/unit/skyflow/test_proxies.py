"""Which proxy is used, by the environment's variables."""

from __future__ import annotations

import pytest

from skyflowctl.secret import Secret
from skyflowctl.skyflow.http.proxies import Proxy, proxy_for

PROXY = "http://proxy.example:3128"
HOST = "manage.skyflowapis.com"


def chosen(environ: dict[str, str], host: str = HOST, port: int = 443) -> str:
    proxy = proxy_for(host, port, environ)
    return f"{proxy.host}:{proxy.port}" if proxy else "direct"


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, "direct"),
        ({"HTTPS_PROXY": ""}, "direct"),
        ({"HTTPS_PROXY": "  "}, "direct"),
        ({"HTTP_PROXY": PROXY}, "direct"),
        ({"HTTPS_PROXY": PROXY}, "proxy.example:3128"),
        ({"https_proxy": PROXY}, "proxy.example:3128"),
        ({"https_proxy": "http://a:1", "HTTPS_PROXY": PROXY}, "a:1"),
        ({"https_proxy": "", "HTTPS_PROXY": PROXY}, "direct"),
        ({"HTTPS_PROXY": "proxy.example:3128"}, "proxy.example:3128"),
        ({"HTTPS_PROXY": "http://proxy.example"}, "proxy.example:80"),
        ({"HTTPS_PROXY": "http://[::1]:3128/"}, "::1:3128"),
    ],
)
def test_the_variable_names_the_proxy(environ, expected):
    assert chosen(environ) == expected


@pytest.mark.parametrize(
    ("rules", "host", "expected"),
    [
        ("*", HOST, "direct"),
        (HOST, HOST, "direct"),
        (HOST.upper(), HOST, "direct"),
        (HOST, HOST.upper(), "direct"),
        ("skyflowapis.com", HOST, "direct"),
        (".skyflowapis.com", HOST, "direct"),
        ("*.skyflowapis.com", HOST, "direct"),
        (f"{HOST}:443", HOST, "direct"),
        (f"{HOST}:8443", HOST, "proxy"),
        ("flowapis.com", HOST, "proxy"),
        ("other.example, ,x", HOST, "proxy"),
        ("", HOST, "proxy"),
        (".", HOST, "proxy"),
        ("a.example , skyflowapis.com", HOST, "direct"),
        ("10.0.0.0/8", "10.1.2.3", "direct"),
        ("10.0.0.0/8", "11.1.2.3", "proxy"),
        ("10.0.0.0/8", HOST, "proxy"),
        ("127.0.0.1", "127.0.0.1", "direct"),
        ("127.0.0.1:443", "127.0.0.1", "direct"),
        ("::1", "::1", "direct"),
        ("[::1]", "::1", "direct"),
        ("[::1]:443", "::1", "direct"),
        ("fd00::/8", "fd12::1", "direct"),
        ("fd00::/8", "10.0.0.1", "proxy"),
    ],
)
def test_no_proxy_excepts_hosts_domains_and_networks(rules, host, expected):
    found = chosen({"HTTPS_PROXY": PROXY, "NO_PROXY": rules}, host)
    assert ("direct" if found == "direct" else "proxy") == expected


def test_the_lower_case_exceptions_win():
    assert chosen({"HTTPS_PROXY": PROXY, "no_proxy": "", "NO_PROXY": "*"}) == "proxy.example:3128"


def test_a_login_becomes_a_header_that_does_not_print_itself():
    proxy = proxy_for(HOST, 443, {"HTTPS_PROXY": "http://me:p%40ss%3A@proxy.example:3128"})
    assert proxy == Proxy("proxy.example", 3128, Secret("Basic bWU6cEBzczo="))
    assert "bWU6" not in repr(proxy)


@pytest.mark.parametrize(
    "url",
    [
        "socks5://proxy:1080",
        "https://proxy:443",
        "http:///x",
        "http://:3128",
        "http://p:99999",
        "http://[::1",
    ],
)
def test_what_is_no_http_proxy_is_refused_without_being_repeated(url):
    with pytest.raises(ValueError, match=r"^HTTPS_PROXY") as caught:
        proxy_for(HOST, 443, {"HTTPS_PROXY": url})
    assert url not in str(caught.value)
