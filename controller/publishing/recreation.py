"""How long to wait before slices that vanished are made again.

Source of the rule: the kubelet deletes all slices of its node in the background after its start, up to
minutes later, and those of a driver 30 s after the connection to it is lost; no new registration follows
a mere reconnect. So what vanished is made again soon, and ever later while it keeps vanishing, because
then somebody is still deleting.

Limits: pure; the time is passed in. First publication is not recreation: it never waits.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class _Node:
    due: float | None = None
    times: int = 0
    recreated: float = float("-inf")


class Recreation:
    """Delays, node by node."""

    def __init__(self, *, first_s: float = 5.0, cap_s: float = 60.0) -> None:
        """Starts without any memory.

        Args:
            first_s: Wait after slices vanished.
            cap_s: Longest wait. Slices that stayed twice as long are considered safe again.
        """
        self._first_s = first_s
        self._cap_s = cap_s
        self._nodes: dict[str, _Node] = {}

    def wait(self, node: str, *, now: float) -> float:
        """Seconds until slices of the node that vanished may be made again; 0 if they may be now.

        To be asked again and again while they are missing; the wait begins with the first question.
        """
        state = self._nodes.setdefault(node, _Node())
        if state.due is None:
            if now - state.recreated > 2 * self._cap_s:
                state.times = 0
            state.due = now + min(self._cap_s, self._first_s * 2**state.times)
            state.times += 1
        return max(0.0, state.due - now)

    def recreated(self, node: str, *, now: float) -> None:
        """Takes note that the missing slices were made again."""
        state = self._nodes.setdefault(node, _Node())
        state.due = None
        state.recreated = now

    def present(self, node: str) -> None:
        """Takes note that nothing is missing, whoever made it."""
        state = self._nodes.get(node)
        if state is not None:
            state.due = None

    def forget(self, node: str) -> None:
        """Drops what is known of a node that is gone."""
        self._nodes.pop(node, None)
