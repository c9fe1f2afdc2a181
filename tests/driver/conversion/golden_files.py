"""Golden files: a pod of before, and what becomes of it.

Each file says what it is `about`, may have `settings`, the `stock` of cards, `classes` and the names that are
`served` by class, and has the pod `before`. The rest is written by
`python -m tests.driver.conversion.update_golden`: the pod `after`, its `templates` and `warnings`, or why it
is `refused`.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonpatch import apply_patch

from driver.api.share_config import CorePolicy
from driver.conversion import CardKind, ConversionError, ConversionSettings, convert, templates_of

FOLDER = Path(__file__).parent / "golden"
IDENTITY = "5f7c0d6e-0000-4000-8000-000000000001"
_GIVEN = ("about", "settings", "stock", "classes", "served", "before")


_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    def ignore_aliases(self, data: Any) -> bool:
        return True


def files() -> list[Path]:
    return sorted(FOLDER.glob("*/*.yaml"))


def name_of(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


def settings_of(case: dict[str, Any]) -> ConversionSettings:
    said = dict(case.get("settings") or {})
    if "core_policy" in said:
        said["core_policy"] = CorePolicy(said["core_policy"])
    if "left_alone" in said:
        said["left_alone"] = frozenset(said["left_alone"])
    return ConversionSettings(**said)


def stock_of(case: dict[str, Any]) -> tuple[CardKind, ...]:
    return tuple(CardKind(**one) for one in case.get("stock") or ())


def answered(case: dict[str, Any]) -> dict[str, Any]:
    """The case with what conversion says now."""
    given = {key: case[key] for key in _GIVEN if key in case}
    settings, stock = settings_of(case), stock_of(case)
    class_of = (case.get("served") or {}).get
    try:
        found = convert(
            case["before"],
            identity=IDENTITY,
            settings=settings,
            stock=stock,
            classes=case.get("classes") or {},
            class_of=class_of,
        )
    except ConversionError as error:
        return {**given, "refused": {"reason": error.reason, "message": str(error)}}
    if found is None:
        return {**given, "unchanged": True}
    after = apply_patch(case["before"], list(found.patch))
    if found.templates:
        assert templates_of(after, settings=settings, stock=stock, class_of=class_of) == found.templates
    more = {"warnings": list(found.warnings)} if found.warnings else {}
    return {**given, "after": after, "templates": list(found.templates), **more}


def text_of(case: dict[str, Any]) -> str:
    return yaml.dump(case, Dumper=_Dumper, sort_keys=False, width=10_000, allow_unicode=True)


@cache
def read(path: Path) -> dict[str, Any]:
    case: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER)
    return case
