"""What is served beside the metrics."""

import socket
import urllib.error
import urllib.request

from controller.metrics import Metrics


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=60) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read().decode()


def test_readiness_is_told_on_the_port_of_the_metrics() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    reasons = ["The list of nodes is not complete yet."]
    Metrics().serve(port, address="127.0.0.1", not_ready=lambda: reasons)
    url = f"http://127.0.0.1:{port}"
    assert get(f"{url}/readyz") == (503, "The list of nodes is not complete yet.\n")
    reasons.clear()
    assert get(f"{url}/readyz") == (200, "ready\n")
    assert "dragoman_controller_leading" in get(f"{url}/metrics")[1]
