"""Which API server the person means, and who they are to it: what kubectl would use.

Flow: `--kubeconfig`, else the files of KUBECONFIG, else `~/.kube/config`, else the pod's service account.
Files are merged as kubectl does: what is named first counts. `--context` chooses, else `current-context`.

Limits: credentials are tokens, token files, client certificates and `exec` plugins. What would make us
somebody else if it were passed over (impersonation, passwords) or reach something else (a proxy, another TLS
name) is refused by name. No text of a kubeconfig but names gets into an error, because it holds secrets.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from controller.cli.exec_plugin import Credentials, credentials_of
from driver.errors import ConfigError
from driver.kube.config import SERVICE_ACCOUNT, ClusterConfig, in_cluster

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_USER_REFUSED = {
    "auth-provider": "Plugins of this kind were removed from Kubernetes; use exec.",
    "username": "API servers take no passwords any more; use a token.",
    "password": "API servers take no passwords any more; use a token.",
    "as": "Use a context that does not impersonate.",
    "as-uid": "Use a context that does not impersonate.",
    "as-groups": "Use a context that does not impersonate.",
    "as-user-extra": "Use a context that does not impersonate.",
}
_CLUSTER_REFUSED = {
    "proxy-url": "Use a context that reaches the API server without a proxy.",
    "tls-server-name": "Name the API server by the name that its certificate has.",
}


@dataclass(frozen=True, kw_only=True)
class Access:
    """An API server.

    Attributes:
        config: Where it is, and who we are to it.
        context: Name of the context, "" in a pod.
    """

    config: ClusterConfig
    context: str = ""


def find_access(
    *, kubeconfig: str = "", context: str = "", environ: Mapping[str, str] | None = None
) -> Access:
    """Finds the API server.

    Args:
        kubeconfig: Path of a kubeconfig, "" to look where kubectl looks.
        context: Name of a context, "" for the current one.
        environ: The environment; that of the process if None.

    Raises:
        ConfigError: There is none, or it cannot be used.
    """
    environ = os.environ if environ is None else environ
    paths = _paths(kubeconfig, environ)
    present = [path for path in paths if path.exists()]
    if not present:
        if not kubeconfig and environ.get("KUBERNETES_SERVICE_HOST") and (SERVICE_ACCOUNT / "token").exists():
            return Access(config=in_cluster(environ=environ))
        listed = ", ".join(map(str, paths))
        raise ConfigError(
            f"No kubeconfig was found ({listed}).",
            remedy="Name the file with --kubeconfig, or set KUBECONFIG.",
        )
    merged = _Merged()
    for path in present:
        merged.add(path)
    return merged.access(context)


def _paths(kubeconfig: str, environ: Mapping[str, str]) -> list[Path]:
    if kubeconfig:
        return [Path(kubeconfig)]
    listed = [Path(one) for one in environ.get("KUBECONFIG", "").split(os.pathsep) if one]
    return listed or [Path(environ.get("HOME", "/")) / ".kube" / "config"]


class _Merged:
    """Kubeconfigs, one after the other."""

    def __init__(self) -> None:
        self._current = ""
        self._entries: dict[tuple[str, str], tuple[Mapping[str, Any], Path]] = {}

    def add(self, path: Path) -> None:
        document = _read(path)
        self._current = self._current or str(document.get("current-context") or "")
        for kind, inner in (("contexts", "context"), ("clusters", "cluster"), ("users", "user")):
            entries = document.get(kind) or []
            if not isinstance(entries, list):
                raise ConfigError("This is no list.", field=f"{path}: {kind}", remedy="Mend the kubeconfig.")
            for one in entries:
                if isinstance(one, Mapping) and isinstance(one.get(inner) or {}, Mapping):
                    key = (kind, str(one.get("name")))
                    self._entries.setdefault(key, (one.get(inner) or {}, path.parent))

    def access(self, wanted: str) -> Access:
        name = wanted or self._current
        names = ", ".join(sorted(known for kind, known in self._entries if kind == "contexts"))
        if not name:
            raise ConfigError(
                "No context is chosen.",
                field="current-context",
                remedy=f"Use --context with one of: {names}.",
            )
        if ("contexts", name) not in self._entries:
            raise ConfigError(
                f"There is no context {name!r}.",
                field="--context" if wanted else "current-context",
                remedy=f"Use one of: {names or 'none is there'}.",
            )
        context, _ = self._entries["contexts", name]
        cluster, cluster_at = self._named("clusters", str(context.get("cluster") or ""), of=name)
        user, user_at = self._named("users", str(context.get("user") or ""), of=name)
        _refuse(cluster, _CLUSTER_REFUSED, field=f"clusters[{context.get('cluster')}].cluster")
        _refuse(user, _USER_REFUSED, field=f"users[{context.get('user')}].user")
        server = str(cluster.get("server") or "").rstrip("/")
        if not server.startswith(("https://", "http://")):
            raise ConfigError(
                "The cluster names no server with http:// or https://.",
                field=f"clusters[{context.get('cluster')}].cluster.server",
                remedy="Mend the kubeconfig.",
            )
        config = ClusterConfig(
            server=server,
            ca=_inline(cluster, "certificate-authority", cluster_at),
            token=str(user.get("token") or ""),
            token_file=str(user_at / str(user["tokenFile"])) if user.get("tokenFile") else "",
            certificate=_inline(user, "client-certificate", user_at),
            key=_inline(user, "client-key", user_at),
            insecure=bool(cluster.get("insecure-skip-tls-verify")),
            namespace=str(context.get("namespace") or "default"),
        )
        if user.get("exec"):
            field = f"users[{context.get('user')}].user.exec"
            found = credentials_of(user["exec"], field=field, folder=user_at, cluster=cluster)
            config = _with(config, found)
        return Access(config=config, context=name)

    def _named(self, kind: str, name: str, *, of: str) -> tuple[Mapping[str, Any], Path]:
        found = self._entries.get((kind, name))
        if found is None:
            raise ConfigError(
                f"{name!r} is not among the {kind}.", field=f"contexts[{of}]", remedy="Mend the kubeconfig."
            )
        return found


def _read(path: Path) -> Mapping[str, Any]:
    try:
        document = yaml.load(path.read_text(), Loader=_Loader)  # noqa: S506 - a safe loader, in C if there is one
    except OSError as failed:
        raise ConfigError(
            f"{path} cannot be read: {failed.strerror}.", remedy="Name another file with --kubeconfig."
        ) from None
    except (yaml.YAMLError, ValueError) as invalid:
        # The parser's own words quote the line, which may be a token.
        mark = getattr(invalid, "problem_mark", None)
        where = f" (line {mark.line + 1})" if mark is not None else ""
        raise ConfigError(f"{path} is no YAML{where}.", remedy="Mend the kubeconfig.") from None
    if not isinstance(document, Mapping):
        raise ConfigError(f"{path} is no kubeconfig.", remedy="Name another file with --kubeconfig.")
    return document


def _refuse(entry: Mapping[str, Any], refused: Mapping[str, str], *, field: str) -> None:
    for name, remedy in refused.items():
        if entry.get(name):
            raise ConfigError(f"{name} is not supported.", field=f"{field}.{name}", remedy=remedy)


def _inline(entry: Mapping[str, Any], name: str, folder: Path) -> str:
    data = entry.get(f"{name}-data")
    try:
        if data:
            return base64.b64decode(str(data), validate=True).decode()
        return (folder / str(entry[name])).read_text() if entry.get(name) else ""
    except OSError as failed:
        raise ConfigError(f"The file cannot be read: {failed.strerror}.", field=name) from None
    except (binascii.Error, UnicodeDecodeError):
        raise ConfigError("This is no base64 of a PEM text.", field=f"{name}-data") from None


def _with(config: ClusterConfig, found: Credentials) -> ClusterConfig:
    return ClusterConfig(
        server=config.server,
        ca=config.ca,
        token=found.token or config.token,
        token_file="" if found.token else config.token_file,
        certificate=found.certificate or config.certificate,
        key=found.key or config.key,
        insecure=config.insecure,
        namespace=config.namespace,
    )
