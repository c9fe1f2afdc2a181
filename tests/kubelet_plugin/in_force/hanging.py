"""A round of a look that hangs in a call, in a thread of its own, as where a node does not answer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from kubelet_plugin.in_force.looks import LookGivenUpError


class HangingRound:
    """Begins a round and waits until it hangs in its first call of a method.

    Args:
        round_of_a_look: The round; what it is given raises once nobody waits for it any more.
        owner: Whose method it is.
        method: Name of the method.
        monkeypatch: Sets the method back at the end of the test.
    """

    def __init__(
        self,
        round_of_a_look: Callable[[Callable[[], None]], object],
        *,
        owner: type,
        method: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        self._inside, self._answers = threading.Event(), threading.Event()
        self._given_up = False
        answered = getattr(owner, method)

        def hangs(*positional: Any, **named: Any) -> Any:
            if threading.current_thread() is self._late and not self._inside.is_set():
                self._inside.set()
                assert self._answers.wait(10)
            return answered(*positional, **named)

        def late() -> None:
            with suppress(LookGivenUpError):
                round_of_a_look(self._goes_on)

        monkeypatch.setattr(owner, method, hangs)
        self._late = threading.Thread(target=late)
        self._late.start()
        assert self._inside.wait(10)

    def _goes_on(self) -> None:
        if self._given_up:
            raise LookGivenUpError

    def give_up(self) -> None:
        """Nobody waits for the round any more."""
        self._given_up = True

    def answer(self) -> None:
        """Ends the call, and waits for the end of the round."""
        self._answers.set()
        self._late.join(10)
        assert not self._late.is_alive()
