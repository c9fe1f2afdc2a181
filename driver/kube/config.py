"""Where the API server is, and who we are to it.

Flow: inside a pod, the service account's folder; outside, a kubeconfig (`KUBECONFIG`, `~/.kube/config`, or
a path). A transport takes the `ClusterConfig`; nothing else reads credentials. A `TokenReader` gives the
token of each request.

Limits: tokens, client certificates and a CA. `exec` and `auth-provider` plugins are refused with a sentence:
they would run a program of the user's machine, which a controller has no use for and a command line can have
later. Credentials never appear in `repr`, so that they cannot get into a log.
"""

from __future__ import annotations

import base64
import binascii
import os
import ssl
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from driver.errors import ConfigError

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")

TOKEN_MAX_AGE_S = 60.0
"""The kubelet renews a token file well before the old token ends; once a minute is often enough."""


@dataclass(frozen=True, kw_only=True)
class ClusterConfig:
    """How to reach an API server.

    Attributes:
        server: URL without a path at its end.
        ca: The CA's certificates (PEM); "" to trust the system's.
        token: A bearer token that does not change; "" if none.
        token_file: File with a bearer token that is rotated; read again at least once a minute; "" if none.
        certificate: Client certificate (PEM); "" if none.
        key: Its private key (PEM).
        verify_as: Name or address that the server's certificate has to be for; "" for that of the URL.
        insecure: Do not verify the server's certificate, because the kubeconfig says so.
        namespace: Namespace of the service account or the context; "default" where none is named.
    """

    server: str
    ca: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    token_file: str = ""
    certificate: str = field(default="", repr=False)
    key: str = field(default="", repr=False)
    verify_as: str = ""
    insecure: bool = False
    namespace: str = "default"

    def ssl_context(self) -> ssl.SSLContext | None:
        """The TLS settings; None for a plain `http://` server.

        Raises:
            ConfigError: A certificate or key cannot be read.
        """
        if not self.server.startswith("https://"):
            return None
        try:
            context = ssl.create_default_context(cadata=self.ca or None)
            if self.insecure:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            if self.certificate:
                _load_certificate(context, self.certificate, self.key)
        except (ssl.SSLError, ValueError) as invalid:
            raise ConfigError(
                f"The certificates for {self.server} cannot be used: {invalid}.",
                field="certificate-authority-data",
            ) from None
        return context


class TokenReader:
    """The bearer token of each request, following a file that is rotated; may be used from threads."""

    def __init__(self, config: ClusterConfig, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = Path(config.token_file) if config.token_file else None
        self._token = config.token
        self._clock = clock
        self._read_at = float("-inf")

    def token(self) -> str:
        """The token; the last one known if the file cannot be read just now; "" if there is none at all.

        Raises:
            OSError: The file was never readable.
        """
        if self._path is not None and self._clock() - self._read_at >= TOKEN_MAX_AGE_S:
            try:
                self._token = self._path.read_text().strip()
                self._read_at = self._clock()
            except OSError:
                # The kubelet swaps the file; a token that was good a minute ago is better than none.
                if not self._token:
                    raise
        return self._token

    def renew(self) -> bool:
        """To be called when the server refused the token; whether there may be a newer one now."""
        self._read_at = float("-inf")
        return self._path is not None


def load_config(kubeconfig: str = "", *, environ: Mapping[str, str] | None = None) -> ClusterConfig:
    """Finds the API server.

    Args:
        kubeconfig: Path of a kubeconfig; "" looks inside the pod first, then where kubectl looks.
        environ: The environment; os.environ if None.

    Raises:
        ConfigError: No configuration was found, or the one found cannot be used.
    """
    environ = os.environ if environ is None else environ
    if kubeconfig:
        return from_kubeconfig(Path(kubeconfig))
    if environ.get("KUBERNETES_SERVICE_HOST") and (SERVICE_ACCOUNT / "token").exists():
        return in_cluster(environ=environ)
    # KUBECONFIG may hold a list; merging its files is kubectl's own art, the first one has to do.
    path = environ.get("KUBECONFIG", "").split(os.pathsep)[0]
    candidate = Path(path) if path else Path(environ.get("HOME", "/")) / ".kube" / "config"
    if not candidate.exists():
        raise ConfigError(
            "This does not run in a pod, and no kubeconfig was found.",
            field="kubeconfig",
            remedy="Set KUBECONFIG or name the file with --kubeconfig.",
        )
    return from_kubeconfig(candidate)


def in_cluster(*, environ: Mapping[str, str] | None = None, folder: Path = SERVICE_ACCOUNT) -> ClusterConfig:
    """The configuration of a pod's service account.

    Raises:
        ConfigError: The folder or the environment of a pod is missing.
    """
    environ = os.environ if environ is None else environ
    host, port = environ.get("KUBERNETES_SERVICE_HOST", ""), environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise ConfigError(
            "This process is not in a pod, so it does not know the API server.",
            field="KUBERNETES_SERVICE_HOST",
            remedy="Name a kubeconfig.",
        )
    try:
        ca = (folder / "ca.crt").read_text()
        namespace = (folder / "namespace").read_text().strip()
    except OSError as missing:
        raise ConfigError(
            f"The service account's files cannot be read: {missing}.",
            remedy="Do not set automountServiceAccountToken: false.",
        ) from None
    bracketed = f"[{host}]" if ":" in host else host
    return ClusterConfig(
        server=f"https://{bracketed}:{port}",
        ca=ca,
        token_file=str(folder / "token"),
        namespace=namespace or "default",
    )


def from_kubeconfig(path: Path) -> ClusterConfig:
    """The current context of a kubeconfig.

    Raises:
        ConfigError: The file cannot be read, or names credentials that are not supported.
    """
    import yaml  # noqa: PLC0415 - in a pod there is no kubeconfig

    try:
        document = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as invalid:
        raise ConfigError(f"{path} cannot be read: {invalid}.", field="kubeconfig") from None
    if not isinstance(document, Mapping):
        raise ConfigError(f"{path} is no kubeconfig.", field="kubeconfig")
    context = _named(document, "contexts", str(document.get("current-context") or ""), inner="context")
    cluster = _named(document, "clusters", str(context.get("cluster") or ""), inner="cluster")
    user = _named(document, "users", str(context.get("user") or ""), inner="user")
    for plugin in ("exec", "auth-provider"):
        if user.get(plugin):
            raise ConfigError(
                f"Credentials by {plugin} plugins are not supported.",
                field=f"users[{context.get('user')}].user.{plugin}",
                remedy="Use a token, a token file or a client certificate; "
                "`kubectl create token` makes a token for a service account.",
            )
    here = path.parent
    return ClusterConfig(
        server=str(cluster.get("server") or "").rstrip("/"),
        ca=_inline(cluster, "certificate-authority", here),
        token=str(user.get("token") or ""),
        token_file=str(here / str(user["tokenFile"])) if user.get("tokenFile") else "",
        certificate=_inline(user, "client-certificate", here),
        key=_inline(user, "client-key", here),
        insecure=bool(cluster.get("insecure-skip-tls-verify")),
        namespace=str(context.get("namespace") or "default"),
    )


def _named(document: Mapping[str, Any], kind: str, name: str, *, inner: str) -> Mapping[str, Any]:
    for entry in document.get(kind) or []:
        if isinstance(entry, Mapping) and entry.get("name") == name:
            found = entry.get(inner)
            return found if isinstance(found, Mapping) else {}
    raise ConfigError(f"{name!r} is not among the {kind}.", field=kind, remedy="Check current-context.")


def _inline(entry: Mapping[str, Any], name: str, folder: Path) -> str:
    data = entry.get(f"{name}-data")
    try:
        if data:
            return base64.b64decode(str(data), validate=True).decode()
        if entry.get(name):
            return (folder / str(entry[name])).read_text()
    except (OSError, binascii.Error, UnicodeDecodeError) as invalid:
        raise ConfigError(f"This cannot be read: {invalid}.", field=name) from None
    return ""


def _load_certificate(context: ssl.SSLContext, certificate: str, key: str) -> None:
    # The ssl module takes a client certificate from files only; the file is gone again at once.
    with tempfile.NamedTemporaryFile("w", prefix="dragoman-", suffix=".pem") as pem:
        pem.write(f"{certificate}\n{key}\n")
        pem.flush()
        context.load_cert_chain(pem.name)
