"""Semantic versions: Kubernetes' library for versions.

Purpose: `semver("1.2.3")` and comparing a device's versions with it.

Flow: overloads on `driver.cel.versions.Version`.

Limits: `major()` and its kin wrap around above 2^63, as the reference's do.
"""

from __future__ import annotations

from driver.cel.errors import EvaluationError
from driver.cel.library import costs
from driver.cel.library.entry import overload
from driver.cel.versions import Version, normalize


def _parse(text: str, *, tolerant: bool) -> Version | None:
    strict = normalize(text) if tolerant else text
    return None if strict is None else Version.parse(strict)


def _required(text: str, *, tolerant: bool) -> Version:
    version = _parse(text, tolerant=tolerant)
    if version is None:
        raise EvaluationError(f"{text[:64]!r} is not a semantic version")
    return version


@overload("semver(string) -> semver", cost=costs.first)
def _semver(text: str) -> Version:
    return _required(text, tolerant=False)


@overload("semver(string, bool) -> semver", cost=costs.first)
def _semver_tolerant(text: str, tolerant: bool) -> Version:  # noqa: FBT001 - CEL passes it by position
    return _required(text, tolerant=tolerant)


@overload("isSemver(string) -> bool", cost=costs.first)
def _is_semver(text: str) -> bool:
    return _parse(text, tolerant=False) is not None


@overload("isSemver(string, bool) -> bool", cost=costs.first)
def _is_semver_tolerant(text: str, tolerant: bool) -> bool:  # noqa: FBT001 - CEL passes it by position
    return _parse(text, tolerant=tolerant) is not None


@overload("compareTo(semver, semver) -> int", method=True)
def _compare(left: Version, right: Version) -> int:
    return (left.order > right.order) - (left.order < right.order)


@overload("isGreaterThan(semver, semver) -> bool", method=True)
def _greater(left: Version, right: Version) -> bool:
    return left.order > right.order


@overload("isLessThan(semver, semver) -> bool", method=True)
def _less(left: Version, right: Version) -> bool:
    return left.order < right.order


@overload("major(semver) -> int", method=True)
def _major(version: Version) -> int:
    return _wrapped(version.order[0][0])


@overload("minor(semver) -> int", method=True)
def _minor(version: Version) -> int:
    return _wrapped(version.order[0][1])


@overload("patch(semver) -> int", method=True)
def _patch(version: Version) -> int:
    return _wrapped(version.order[0][2])


def _wrapped(number: int) -> int:
    return number - (1 << 64) if number >= 1 << 63 else number
