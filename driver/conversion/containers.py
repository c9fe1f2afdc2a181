"""The containers of a pod as conversion sees them.

Limits: only what bears on amounts; a pod that the API server would not have sent is refused, never guessed
at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from driver.conversion.errors import ConversionError

_POLICY_VARIABLE = "GPU_CORE_UTILIZATION_POLICY"
_CONTROL_VARIABLE = "CUDA_DISABLE_CONTROL"


@dataclass(frozen=True, kw_only=True)
class Container:
    """One container.

    Attributes:
        name: Its name.
        path: Its path, such as `spec.initContainers[0]`.
        in_turn: Whether it ends before others start: an init container that is no sidecar.
        document: As it came.
    """

    name: str
    path: str
    in_turn: bool
    document: Mapping[str, Any]

    def amounts(self, part: str) -> Mapping[str, Any]:
        """`limits` or `requests`; empty if there are none."""
        found = self.document.get("resources") or {}
        amounts = found.get(part) or {} if isinstance(found, Mapping) else None
        if not isinstance(amounts, Mapping):
            raise ConversionError("This is not an object.", field=f"{self.path}.resources.{part}")
        return amounts

    @property
    def privileged(self) -> bool:
        """Whether it sees all devices of the node."""
        context = self.document.get("securityContext")
        return isinstance(context, Mapping) and context.get("privileged") is True

    @property
    def core_policy(self) -> str:
        """HAMi's variable for the cap on compute, in lower case; "" if it is not set."""
        return self._variable(_POLICY_VARIABLE).lower()

    @property
    def wants_no_control(self) -> bool:
        """Whether it says that limits should not be loaded (HAMi)."""
        return self._variable(_CONTROL_VARIABLE).lower() == "true"

    def _variable(self, name: str) -> str:
        said = ""
        for one in self.document.get("env") or ():
            if isinstance(one, Mapping) and one.get("name") == name:
                said = str(one.get("value") or "")
        return said


def containers_of(spec: Mapping[str, Any]) -> Iterator[Container]:
    """The containers that can have resources: init containers first, each kind in its order.

    Raises:
        ConversionError: This is not the spec of a pod.
    """
    for kind in ("initContainers", "containers"):
        listed = spec.get(kind) or ()
        if not isinstance(listed, (list, tuple)):
            raise ConversionError("This is not a list.", field=f"spec.{kind}")
        for index, one in enumerate(listed):
            path = f"spec.{kind}[{index}]"
            if not isinstance(one, Mapping):
                raise ConversionError("This is not an object.", field=path)
            sidecar = one.get("restartPolicy") == "Always"
            yield Container(
                name=str(one.get("name") or ""),
                path=path,
                in_turn=kind == "initContainers" and not sidecar,
                document=one,
            )
