"""Everything that can be set for the agent, in one frozen dataclass.

Flow: flag, else environment variable, else default (`kubelet_plugin.options`). Paths that follow from others
(sockets below the kubelet's root, state below the plugin's folder) are worked out once, here.

Limits: nothing is read but the arguments and the environment given; whether paths exist is found out by
whoever uses them, because most of them appear later than the agent.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from driver.cards import DRIVER_NAME
from driver.errors import ConfigError
from kubelet_plugin.options import LOG_LEVELS, MPS_MEMORY, OPTIONS

_DNS_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the agent was told.

    Attributes:
        node_name: Name of the Node object that this agent speaks for.
        kubelet_root: The kubelet's `--root-dir`; the same path inside and outside of the agent's container.
        registration_dir: Where the kubelet looks for registration sockets.
        plugin_dir: Folder of the service socket and of what must survive a restart.
        pod_resources_socket: The kubelet's PodResources API.
        cdi_dir: Folder of CDI specs that the container runtime reads.
        state_dir: The claims' state files; on a disk that survives a reboot.
        share_dir: Shared regions of preloaded limits; on tmpfs.
        host_root: Where the node's root file system is seen by the agent; `/` outside of a container.
        driver_root: Root of the vendor's driver installation, as a path of the node.
        preload_library: The preload library to install, "" if shares cannot be limited by preloading.
        preload_dir: Folder of the node that holds installed versions of the preload library.
        preload_ascend, preload_amd: Preload libraries for these vendors' cards, as paths of the node; "" for
            none. They are used where they lie.
        kernel_hook: The program that puts limits on cgroups, to install on the node; "" for none.
        hook_dir: Folder of the node that holds installed versions of it.
        cgroup_root: Where the node's tree of cgroup v2 is mounted.
        mps_dir: Folder of the node's supervisor of MPS; "" if no share is held by MPS.
        mps_memory: `per-process` where limits of each process are good enough to hold a share's memory.
        pod_name, pod_namespace, pod_uid: The agent's own pod; "" if it is a plain process.
        simulated_node: A YAML file of simulated cards; "" for the node's real ones.
        claims_from: Folder of ResourceClaim manifests read instead of the API server; "" for the API server.
        inventory_to: File that the AcceleratorNode is written to where there is no API server; "" for none.
        policies_from: File or folder of AcceleratorPolicies where there is no API server; "" for none.
        api_server, api_token_file, api_ca_file: How to reach the API server; "" for the service account's.
        http_address: `host:port` of probes and metrics; "" serves none; port 0 picks a free one.
        proc_dir: Where the agent sees the node's processes; None for /proc below `host_root`.
        in_force_deadline_s: Seconds for which limits have to be found not in force before it is told; 0:
            nobody looks.
        discovery_interval_s: Seconds between two looks for cards that came or went.
        log_level: One of `LOG_LEVELS`.
    """

    node_name: str
    kubelet_root: Path
    registration_dir: Path
    plugin_dir: Path
    pod_resources_socket: Path
    cdi_dir: Path
    state_dir: Path
    share_dir: Path
    host_root: Path = Path("/")
    driver_root: Path = Path("/")
    preload_library: str = ""
    preload_dir: Path = Path("/var/lib/dragoman/preload")
    kernel_hook: str = ""
    hook_dir: Path = Path("/var/lib/dragoman/hook")
    cgroup_root: Path = Path("/sys/fs/cgroup")
    preload_ascend: str = ""
    preload_amd: str = ""
    mps_dir: str = ""
    mps_memory: str = "none"
    pod_name: str = ""
    pod_namespace: str = ""
    pod_uid: str = ""
    simulated_node: str = ""
    claims_from: str = ""
    policies_from: str = ""
    inventory_to: str = ""
    api_server: str = ""
    api_token_file: str = ""
    api_ca_file: str = ""
    http_address: str = ""
    proc_dir: Path | None = None
    in_force_deadline_s: float = 30.0
    discovery_interval_s: float = 60.0
    log_level: str = "info"

    @property
    def file_backed(self) -> bool:
        """Whether claims come from files, so that no API server is spoken to."""
        return bool(self.claims_from)


def parse_settings(arguments: Sequence[str], *, environment: Mapping[str, str]) -> Settings:
    """Settings from flags and environment.

    Raises:
        ConfigError: A value cannot be used; `field` names the flag and its environment variable.
        SystemExit: `--help` was asked for, or a flag is not known (argparse has said which).
    """
    parsed = _parser().parse_args(list(arguments))
    values = {}
    for option in OPTIONS:
        value = getattr(parsed, option.field)
        # A variable that is set to nothing says nothing: charts do that for values left out.
        values[option.field] = (
            (environment.get(option.variable) or option.default) if value is None else value
        )
    return _settings(values)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dragoman-kubelet-plugin",
        description="The node agent of Dragoman: finds accelerators, registers with the kubelet and prepares "
        "shares of them. Each flag can also be given as the environment variable named behind it.",
        allow_abbrev=False,
    )
    for option in OPTIONS:
        told = option.help
        if option.default and "Default:" not in told:
            told += f" Default: {option.default}."
        parser.add_argument(
            option.flag, dest=option.field, metavar=option.metavar, help=f"{told} [{option.variable}]"
        )
    return parser


def _settings(values: Mapping[str, str]) -> Settings:
    kubelet_root = _absolute(values, "kubelet_root")
    plugin_dir = _absolute(values, "plugin_dir", default=kubelet_root / "plugins" / DRIVER_NAME)
    for field, what in (
        ("policies_from", "Policies are read from"),
        ("inventory_to", "Inventory is written to"),
    ):
        if values[field] and not values["claims_from"]:
            raise _error(field, f"{what} the API server.", "Leave it out, or set --claims-from.")
    return Settings(
        node_name=_node_name(values),
        kubelet_root=kubelet_root,
        registration_dir=_absolute(values, "registration_dir", default=kubelet_root / "plugins_registry"),
        plugin_dir=plugin_dir,
        pod_resources_socket=_absolute(
            values, "pod_resources_socket", default=kubelet_root / "pod-resources" / "kubelet.sock"
        ),
        cdi_dir=_absolute(values, "cdi_dir"),
        state_dir=_absolute(values, "state_dir", default=plugin_dir / "state"),
        share_dir=_absolute(values, "share_dir"),
        host_root=_absolute(values, "host_root"),
        driver_root=_absolute(values, "driver_root"),
        preload_library=values["preload_library"],
        preload_dir=_absolute(values, "preload_dir"),
        kernel_hook=values["kernel_hook"],
        hook_dir=_absolute(values, "hook_dir"),
        cgroup_root=_absolute(values, "cgroup_root"),
        preload_ascend=_node_file(values, "preload_ascend"),
        preload_amd=_node_file(values, "preload_amd"),
        mps_dir=str(_absolute(values, "mps_dir")) if values["mps_dir"] else "",
        mps_memory=_checked(
            values, "mps_memory", lambda text: text in MPS_MEMORY, f"Choose one of {', '.join(MPS_MEMORY)}."
        ),
        pod_name=values["pod_name"],
        pod_namespace=values["pod_namespace"],
        pod_uid=_checked(values, "pod_uid", lambda text: "/" not in text, "A UID has no slashes in it."),
        simulated_node=values["simulated_node"],
        claims_from=values["claims_from"],
        policies_from=values["policies_from"],
        inventory_to=values["inventory_to"],
        api_server=_checked(
            values,
            "api_server",
            lambda text: not text or text.startswith(("https://", "http://")),
            "Write a URL such as https://10.96.0.1:443.",
        ),
        api_token_file=values["api_token_file"],
        api_ca_file=values["api_ca_file"],
        http_address=_checked(
            values, "http_address", _is_address, "Write HOST:PORT such as 0.0.0.0:8080, or leave it out."
        ),
        proc_dir=_absolute(values, "proc_dir") if values["proc_dir"] else None,
        in_force_deadline_s=_seconds(values, "in_force_deadline_s", least=0),
        discovery_interval_s=_seconds(values, "discovery_interval_s", least=1),
        log_level=_checked(
            values, "log_level", lambda text: text in LOG_LEVELS, f"Choose one of {', '.join(LOG_LEVELS)}."
        ),
    )


def _node_name(values: Mapping[str, str]) -> str:
    name = values["node_name"]
    if not name and values["claims_from"]:
        # Without an API server there is nobody else to agree with on a name.
        return "simulated" if values["simulated_node"] else "local"
    if not _DNS_SUBDOMAIN.fullmatch(name):
        problem = f"{name!r} is not the name of a Node." if name else "The agent has to know its node."
        raise _error("node_name", problem, "Give the name of the Node object, in a pod from spec.nodeName.")
    return name


def _node_file(values: Mapping[str, str], field: str) -> str:
    return str(_absolute(values, field)) if values[field] else ""


def _absolute(values: Mapping[str, str], field: str, *, default: Path | None = None) -> Path:
    text = values[field]
    if not text and default is not None:
        return default
    if not text.startswith("/"):
        raise _error(field, f"{text!r} is not an absolute path.", "Write it from / on.")
    return Path(text)


def _checked(values: Mapping[str, str], field: str, valid: Callable[[str], bool], remedy: str) -> str:
    text = values[field]
    if not valid(text):
        raise _error(field, f"{text!r} cannot be used.", remedy)
    return text


def _is_address(text: str) -> bool:
    if not text:
        return True
    _, colon, port = text.rpartition(":")
    return bool(colon) and port.isascii() and port.isdigit() and int(port) < 1 << 16


def _seconds(values: Mapping[str, str], field: str, *, least: int) -> float:
    text = values[field]
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not least <= seconds <= 86400:
        raise _error(field, f"{text!r} cannot be used.", f"Write seconds, from {least} to 86400.")
    return seconds


def _error(field: str, message: str, remedy: str) -> ConfigError:
    option = next(option for option in OPTIONS if option.field == field)
    return ConfigError(message, field=f"{option.flag} ({option.variable})", remedy=remedy)
