"""The one error of this package: a sentence that says what is wrong and what to do about it."""

from __future__ import annotations


class ClusterError(Exception):
    """Something a person can act on; shown without a traceback."""

    def __init__(self, message: str, *, remedy: str = "") -> None:
        end = "" if message.endswith("\n") else ". "
        super().__init__(f"{message}{end}{remedy}" if remedy else message)
        self.message = message
        self.remedy = remedy
