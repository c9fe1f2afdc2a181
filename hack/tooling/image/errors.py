"""The one error of this package: a sentence that says what is wrong and what to do about it."""

from __future__ import annotations


class ImageError(Exception):
    """Something a person can act on; shown without a traceback."""

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(f"{message} {remedy}" if remedy else message)
        self.message = message
        self.remedy = remedy
