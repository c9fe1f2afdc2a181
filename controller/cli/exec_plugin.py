"""Credentials from a program that the kubeconfig names, as cloud providers do it.

Source of the rules: the API group client.authentication.k8s.io (v1, v1beta1): the program prints an
ExecCredential with a token or a client certificate.

Limits: what the program prints is never shown; what it says on stderr goes to the person, who may have to log
in. Credentials are asked for once: a command ends long before they do.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from driver.errors import ConfigError

_VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")
_TIMEOUT_S = 120.0


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """What the program gave; never shown."""

    token: str = field(default="", repr=False)
    certificate: str = field(default="", repr=False)
    key: str = field(default="", repr=False)


def credentials_of(
    plugin: Mapping[str, Any], *, field: str, folder: Path, cluster: Mapping[str, Any]
) -> Credentials:
    """Runs the program of a kubeconfig's user.

    Args:
        plugin: `user.exec`.
        field: Its path, for errors.
        folder: Where the kubeconfig lies: a command with a slash is relative to it.
        cluster: The cluster, which some programs want to be told.

    Raises:
        ConfigError: It is not there, fails, or prints no credentials.
    """
    version, command = str(plugin.get("apiVersion") or ""), str(plugin.get("command") or "")
    if version not in _VERSIONS:
        raise ConfigError(
            f"{version!r} is not known.", field=f"{field}.apiVersion", remedy=f"Use {_VERSIONS[0]}."
        )
    if not command:
        raise ConfigError("No program is named.", field=f"{field}.command", remedy="Mend the kubeconfig.")
    program = str(folder / command) if os.sep in command else command
    interactive = plugin.get("interactiveMode") != "Never" and sys.stdin is not None and sys.stdin.isatty()
    told: dict[str, Any] = {"interactive": interactive}
    if plugin.get("provideClusterInfo"):
        names = {"server", "certificate-authority-data", "insecure-skip-tls-verify"}
        told["cluster"] = {name: cluster[name] for name in names if name in cluster}
    info = {"apiVersion": version, "kind": "ExecCredential", "spec": told}
    environment = {str(one.get("name")): str(one.get("value")) for one in plugin.get("env") or []}
    try:
        done = subprocess.run(  # noqa: S603 - the person's own kubeconfig says so
            [program, *map(str, plugin.get("args") or [])],
            env={**os.environ, **environment, "KUBERNETES_EXEC_INFO": json.dumps(info)},
            stdin=None if interactive else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except FileNotFoundError:
        hint = str(plugin.get("installHint") or "Install it, or use another context.")
        raise ConfigError(
            f"The program {command!r} is not there.", field=f"{field}.command", remedy=hint
        ) from None
    except (OSError, subprocess.TimeoutExpired) as failed:
        raise ConfigError(
            f"The program {command!r} did not end well ({type(failed).__name__}).",
            field=f"{field}.command",
            remedy="Run it by hand to see why.",
        ) from None
    if done.returncode:
        raise ConfigError(
            f"The program {command!r} ended with status {done.returncode}.",
            field=f"{field}.command",
            remedy="Log in again, or run it by hand to see why.",
        )
    return _read(done.stdout, command=command, field=field)


def _read(printed: bytes, *, command: str, field: str) -> Credentials:
    try:
        status = json.loads(printed)["status"]
        found = Credentials(
            token=str(status.get("token") or ""),
            certificate=str(status.get("clientCertificateData") or ""),
            key=str(status.get("clientKeyData") or ""),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        found = Credentials()
    if not (found.token or (found.certificate and found.key)):
        raise ConfigError(
            f"The program {command!r} printed no ExecCredential with a token or a certificate.",
            field=f"{field}.command",
            remedy="Log in again, or run it by hand to see why.",
        )
    return found
