"""The agent's parts that depend on the settings: where claims and policies come from, which methods it has.

Limits: nothing here starts anything. Imports that only an agent with an API server needs are late.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

import structlog

from driver.cards import IsolationLevel
from driver.errors import ConfigError, DragomanError
from driver.isolation import preload_amd, preload_ascend
from driver.isolation.base import IsolationMethod
from driver.isolation.none import NoIsolation
from driver.isolation.preload import PreloadSettings
from driver.isolation.preload_by_vendor import PreloadByVendor
from driver.kube.client import KubeClient
from kubelet_plugin.hook_install import make_kernel
from kubelet_plugin.host import NodeHost
from kubelet_plugin.metrics import Metrics
from kubelet_plugin.policy_source import FilePolicySource, KubePolicySource, PolicySource
from kubelet_plugin.preload_install import install_library
from kubelet_plugin.prepare.claims import ClaimSource, FileClaimSource, KubeClaimSource
from kubelet_plugin.settings import Settings

log = structlog.get_logger(__name__)


def version() -> str:
    """The version of this distribution."""
    with suppress(metadata.PackageNotFoundError):
        return metadata.version("dragoman")
    return "unreleased"


def make_client(settings: Settings, *, environment: Mapping[str, str], metrics: Metrics) -> KubeClient | None:
    """The API server's client; None where claims come from files.

    Raises:
        ConfigError: Nobody says where the API server is, or its CA cannot be read.
    """
    if settings.file_backed:
        return None
    from driver.kube.config import ClusterConfig, in_cluster  # noqa: PLC0415 - TLS and HTTP cost 9 MiB
    from driver.kube.http_transport import HttpTransport  # noqa: PLC0415

    if settings.api_server:
        ca = ""
        if settings.api_ca_file:
            try:
                ca = Path(settings.api_ca_file).read_text(encoding="ascii")
            except (OSError, UnicodeDecodeError) as unreadable:
                raise ConfigError(
                    f"The CA file cannot be read: {unreadable}.",
                    field="--api-ca-file (DRAGOMAN_API_CA_FILE)",
                    remedy="Name a file with PEM certificates.",
                ) from None
        config = ClusterConfig(
            server=settings.api_server.rstrip("/"), ca=ca, token_file=settings.api_token_file
        )
    elif environment.get("KUBERNETES_SERVICE_HOST"):
        config = in_cluster(environ=environment)
    else:
        raise ConfigError(
            "This process is not in a pod, so nobody has told it where the API server is.",
            field="--api-server (DRAGOMAN_API_SERVER)",
            remedy="Name the API server's URL, or a folder of claims with --claims-from.",
        )
    return KubeClient(
        HttpTransport(
            config,
            user_agent=f"dragoman-kubelet-plugin/{version()}",
            observe=lambda method, status, seconds: metrics.observe(
                "api_request_duration_seconds", seconds, method=method, status=str(status)
            ),
        )
    )


def make_claims(settings: Settings, *, client: KubeClient | None) -> ClaimSource:
    """Where claims are read."""
    return FileClaimSource(Path(settings.claims_from)) if client is None else KubeClaimSource(client)


def make_claims_here(client: KubeClient | None) -> ClaimSource | None:
    """The same for threads, by coroutines that never suspend; None where claims come from files."""
    if client is None:
        return None
    from driver.kube.http_transport import HttpTransport  # noqa: PLC0415 - as above

    transport = client.transport
    return KubeClaimSource(KubeClient(transport.here())) if isinstance(transport, HttpTransport) else None


def make_policies(settings: Settings, *, client: KubeClient | None) -> PolicySource:
    """Where policies are read."""
    if client is None:
        return FilePolicySource(settings.policies_from, node_name=settings.node_name)
    return KubePolicySource(client, node_name=settings.node_name)


@dataclass(frozen=True, kw_only=True)
class IsolationParts:
    """The isolation methods, and what went wrong on the way to them (sentences)."""

    methods: Mapping[IsolationLevel, IsolationMethod]
    problems: tuple[str, ...] = ()


def make_methods(settings: Settings) -> IsolationParts:
    """The isolation methods of this agent; installs the preload library and the program for cgroups.

    Before anything else can fail it lets go of shares that an agent made wait for others and was killed.

    What cannot be installed is a problem and no reason to stop: shares without limits, and whole cards, work
    all the same; limited shares are refused by name.
    """
    library = ""
    problems: tuple[str, ...] = ()
    if settings.preload_library:
        try:
            folder = settings.host_root / settings.preload_dir.relative_to("/")
            installed = install_library(Path(settings.preload_library), folder=folder)
            library = str(settings.preload_dir / installed.name)
        except (OSError, DragomanError) as failed:
            problems = (f"The preload library {settings.preload_library} cannot be installed: {failed}",)
            log.error("preload library not installed", error=str(failed))  # noqa: TRY400 - no bug of ours
    common = PreloadSettings(
        library=library, files_dir=str(settings.preload_dir), region_dir=str(settings.share_dir)
    )
    preload = PreloadByVendor(
        common,
        kin={
            preload_ascend.VENDOR: preload_ascend.PreloadAscend(
                replace(common, library=settings.preload_ascend)
            ),
            preload_amd.VENDOR: preload_amd.PreloadAmd(replace(common, library=settings.preload_amd)),
        },
    )
    try:
        waited = preload.let_go(host=NodeHost(settings.host_root))
        if waited:
            log.warning("shares waited for an agent that was killed, and were let go", shares=waited)
    except OSError as failed:
        problems = (*problems, f"Whether shares wait for an agent that was killed is not known: {failed}")
    return IsolationParts(
        methods={
            IsolationLevel.KERNEL: make_kernel(settings),
            IsolationLevel.PRELOAD: preload,
            IsolationLevel.NONE: NoIsolation(),
        },
        problems=problems,
    )
