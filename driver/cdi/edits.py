"""What a container gets: environment, device nodes, mounts and hooks, as values that can be added up.

Source of the fields: CDI specification 0.5.0-1.0.0, `containerEdits`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True, order=True)
class DeviceNode:
    """A device node inside the container.

    Attributes:
        path: Path in the container.
        host_path: Path on the host where it differs; "" for the same path.
        permissions: Any of `r`, `w`, `m`; "" for the runtime's default (`rwm`).
    """

    path: str
    host_path: str = ""
    permissions: str = ""


@dataclass(frozen=True, kw_only=True, order=True)
class Mount:
    """A bind mount of a host path into the container."""

    host_path: str
    container_path: str
    options: tuple[str, ...] = ("ro", "nosuid", "nodev", "bind")


@dataclass(frozen=True, kw_only=True, order=True)
class Hook:
    """An OCI hook.

    Attributes:
        hook_name: `createContainer`, `startContainer`, ... as OCI names them.
        path: Absolute path of the program on the host.
        args: argv, including argv[0].
        env: `NAME=value` entries.
    """

    hook_name: str
    path: str
    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ContainerEdits:
    """Edits of one container; `a + b` is both, without repeating what is equal."""

    env: Mapping[str, str] = field(default_factory=dict)
    device_nodes: tuple[DeviceNode, ...] = ()
    mounts: tuple[Mount, ...] = ()
    hooks: tuple[Hook, ...] = ()

    def __add__(self, other: ContainerEdits) -> ContainerEdits:
        clash = {k for k in self.env.keys() & other.env.keys() if self.env[k] != other.env[k]}
        if clash:
            # Two parts of one share that disagree would leave it to chance which limit is in force.
            raise ValueError(f"environment variables set twice with different values: {sorted(clash)}")
        return ContainerEdits(
            env={**self.env, **other.env},
            device_nodes=_union(self.device_nodes, other.device_nodes),
            mounts=_union(self.mounts, other.mounts),
            hooks=_union(self.hooks, other.hooks),
        )


def _union(first: tuple[_T, ...], second: tuple[_T, ...]) -> tuple[_T, ...]:
    return first + tuple(item for item in second if item not in first)
