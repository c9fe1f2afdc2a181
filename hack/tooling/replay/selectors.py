"""Selectors of the CEL corpus' form, answered by `driver.cel`.

Purpose: `{"devices": [...]}`, then `{"device": index, "expression": "..."}`; each gets `true`, `false`,
`compile-error` or `evaluation-error`.

Limits: another `devices` line may follow and replaces the devices. A selector that ours cannot decide gets
`not-supported`, and an error of ours `internal-error`: never silence.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from driver.cel import (
    DeviceView,
    InvalidSelectorError,
    SelectorNotSupportedError,
    SelectorRaisedError,
    compile_selector,
)
from tooling.replay.check import SelectorCheck
from tooling.replay.lines import Line, read
from tooling.replay.progress import Progress

RECORDED_WITH = "1.37"
"""Release whose package the CEL corpus was recorded with, list-typed attributes on."""


class Selectors:
    """Answers lines in order; keeps the devices that the first one brought."""

    def __init__(self, release: str) -> None:
        self._release = release
        self._views: list[DeviceView] = []
        self.devices: Sequence[Mapping[str, Any]] = ()

    def answer(self, line: Line) -> str | None:
        """The outcome; None for a line that only brings devices.

        Raises:
            ReplayError: The line is no case.
        """
        devices = line.value.get("devices")
        if devices is not None:
            self._take(devices, line)
            return None
        expression, place = line.value.get("expression"), line.value.get("device")
        if not isinstance(expression, str):
            raise line.wrong("a case needs an 'expression', a string")
        if type(place) is not int or not 0 <= place < len(self._views):
            raise line.wrong(f"'device' has to be an index below {len(self._views)}, not {place!r}")
        return outcome(expression, self._views[place], release=self._release)

    def _take(self, devices: Any, line: Line) -> None:
        if not isinstance(devices, list):
            raise line.wrong("'devices' has to be a list")
        views = []
        for place, device in enumerate(devices):
            try:
                views.append(DeviceView.build(device, driver=device["driver"]))
            except (TypeError, KeyError, AttributeError, ValueError) as error:
                raise line.wrong(f"devices[{place}] cannot be read: {error!r}") from None
        self.devices, self._views = devices, views


def outcome(expression: str, device: DeviceView, *, release: str) -> str:
    """What a selector says about a device, in the words of the corpus."""
    try:
        return "true" if compile_selector(expression, release=release).evaluate(device) else "false"
    except SelectorNotSupportedError:
        return "not-supported"
    except InvalidSelectorError:
        return "compile-error"
    except SelectorRaisedError:
        return "evaluation-error"
    except Exception as error:  # noqa: BLE001 - an error of ours is an answer to be seen, not an end
        print(f"internal error: {error!r} in {expression[:300]!r}", file=sys.stderr)
        return "internal-error"


def run(options: argparse.Namespace) -> int:
    """The command `cel`; returns the exit status."""
    selectors, check = Selectors(options.kubernetes or RECORDED_WITH), SelectorCheck()
    progress = Progress("selectors")
    for line in read(sys.stdin.buffer):
        ours = selectors.answer(line)
        if ours is None:
            continue
        for said in check.add(line, ours) if options.check else [json.dumps(ours)]:
            print(said)
        progress.step()
    progress.end()
    return check.close() if options.check else 0
