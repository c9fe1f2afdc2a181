"""A proxy before the API server that refuses a part of the writes; what it does is in `proxy_server`.

Flow: `refusing` makes a certificate, starts the proxy as a process of its own (so that it does not compete
with the watcher for Python's lock) and ends it.
"""

from __future__ import annotations

import base64
import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import urllib3
import yaml

from tests.cluster.support.target import ROOT, Target


@dataclass(frozen=True, kw_only=True)
class Proxy:
    """A proxy that runs.

    Attributes:
        server: Its URL.
        authority: The certificate (PEM) to trust it by.
    """

    server: str
    authority: str
    path: Path

    def figures(self) -> dict[str, int]:
        """How many requests met what, so far."""
        with urllib3.PoolManager(ca_certs=str(self.path), retries=False) as pool:
            found: dict[str, int] = pool.request("GET", f"{self.server}/storm/figures", timeout=10.0).json()
            return found


@contextmanager
def refusing(target: Target, *, folder: Path, share: float, watch_s: float, seed: int) -> Iterator[Proxy]:
    """A proxy before the API server of `target`.

    Args:
        target: The cluster.
        folder: For certificates.
        share: The part of the writes that meets a fault.
        watch_s: How long a watch lasts on average.
        seed: Of the faults.
    """
    certificate, key, authority = (folder / name for name in ("proxy.crt", "proxy.key", "upstream.crt"))
    _certify(certificate, key)
    document = yaml.safe_load(target.kubeconfig.read_text())
    cluster = document["clusters"][0]["cluster"]
    authority.write_bytes(base64.b64decode(cluster["certificate-authority-data"]))
    command = [
        *(sys.executable, "-m", "tests.cluster.support.proxy_server", "--upstream", cluster["server"]),
        *("--upstream-ca", str(authority), "--certificate", str(certificate), "--key", str(key)),
        *("--share", str(share), "--watch-s", str(watch_s), "--seed", str(seed)),
    ]
    log = (folder / "proxy.log").open("wb")
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=log,
    )
    try:
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], 60)
        line = process.stdout.readline() if ready else b""
        assert line, f"the proxy did not start: {(folder / 'proxy.log').read_text()}"
        yield Proxy(
            server=f"https://127.0.0.1:{json.loads(line)['port']}",
            authority=certificate.read_text(),
            path=certificate,
        )
    finally:
        process.kill()
        process.wait(10)
        log.close()
        if process.stdout is not None:
            process.stdout.close()


def _certify(certificate: Path, key: Path) -> None:
    command = [
        *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
        *("-subj", "/CN=storm", "-days", "2", "-addext", "subjectAltName=IP:127.0.0.1"),
        *("-keyout", str(key), "-out", str(certificate)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
