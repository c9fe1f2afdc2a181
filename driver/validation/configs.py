"""What the configuration of a claim or class says, and whether it says one thing only.

Purpose: a ShareConfig is decoded strictly, a ShareAllocation is nobody's to write, and two entries must not
say different things about one request: whichever were to win, somebody would be surprised.

Flow: `read_configs` decodes the entries of our driver; `conflicts` compares those that mean one request.

Rules: an entry without `requests` means all of them; within one object nothing overrides anything. (A
claim's entry overrides a class's: `driver.api.share_config`.) Amounts that the webhook carried over from the
request say the same twice, which is no conflict.

Limits: entries of other drivers are passed over, with a word where their parameters are ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from driver.api.share_allocation import refuse_in_spec
from driver.api.share_config import ShareConfig, decode_share_config
from driver.cards import DRIVER_NAME
from driver.errors import ConfigError, shown
from driver.quantities import Quantity
from driver.validation.amounts import check_amounts
from driver.validation.errors import (
    ConfigConflictError,
    ObjectTooLargeError,
    ObjectUnreadableError,
    RequestNameError,
)
from driver.validation.findings import Notes
from driver.validation.limits import MAX_CONFIGS, MAX_NAMES
from driver.validation.reading import as_mapping, entries, mapping, names, nearest

_DECIDES = ("core_policy", "priority", "minimum_isolation", "on_unavailable")


@dataclass(frozen=True, kw_only=True)
class Said:
    """An entry of ours.

    Attributes:
        field: Path of its parameters.
        requests: The requests that it means; empty for all.
        config: What it says.
        amounts: The amounts that it asks for.
    """

    field: str
    requests: Sequence[str]
    config: ShareConfig
    amounts: Mapping[str, Quantity]

    def means(self, label: str) -> bool:
        """Whether it is about a request, `name` or `name/sub`."""
        return not self.requests or label in self.requests or label.partition("/")[0] in self.requests


def read_configs(
    holder: Mapping[str, Any], *, field: str, notes: Notes, known: Iterable[str] | None = None
) -> list[Said]:
    """Reads the entries of our driver, and notes what is wrong with them.

    Args:
        holder: What has `config`: `spec.devices` of a claim, or `spec` of a class.
        field: Its path.
        notes: Where to note what is wrong.
        known: The requests that an entry may name; None where entries name none.
    """
    found: list[Said] = []
    try:
        configs = entries(holder, "config", field=field, most=MAX_CONFIGS)
    except (ObjectUnreadableError, ObjectTooLargeError) as odd:
        notes.refuse(odd)
        return found
    labels = None if known is None else frozenset(known)
    for place, one in enumerate(configs):
        where = f"{field}.config[{place}]"
        try:
            said = _read(one, field=where, notes=notes)
            if said is not None and labels is not None:
                _check_names(said.requests, labels, field=f"{where}.requests")
        except (ConfigError, ObjectUnreadableError, ObjectTooLargeError, RequestNameError) as refused:
            notes.refuse(refused)
            continue
        if said is not None:
            found.append(said)
    return found


def conflicts(
    said: Sequence[Said], labels: Iterable[str], *, asked: Mapping[str, Mapping[str, Quantity]], notes: Notes
) -> None:
    """Notes entries that contradict each other, or the request that they are about.

    Args:
        said: The entries of one object.
        labels: Its requests and sub-requests; one that stands for all where it has none.
        asked: The amounts that requests ask for themselves, by label.
        notes: Where to note what is wrong.
    """
    told: set[tuple[str, str, str]] = set()
    for label in labels:
        about = [one for one in said if one.means(label)]
        decide = [one for one in about if not one.config.only_asks]
        for one in decide[1:]:
            _compare(decide[0], one, label=label, told=told, notes=notes)
        amounts: dict[str, tuple[str, Quantity]] = {
            name: ("the request itself", amount) for name, amount in asked.get(label, {}).items()
        }
        for one in about:
            for name, amount in one.amounts.items():
                where, before = amounts.setdefault(name, (one.field, amount))
                if before != amount and (where, one.field, name) not in told:
                    told.add((where, one.field, name))
                    notes.refuse(
                        ConfigConflictError(
                            f"It asks for {name}: {amount} for request {label}, and {where} for "
                            f"{name}: {before}.",
                            field=f"{one.field}.capacity.requests.{name}",
                            remedy="Ask for amounts in capacity.requests of the request alone.",
                        )
                    )


def _read(entry: Any, *, field: str, notes: Notes) -> Said | None:
    entry = as_mapping(entry, field=field)
    opaque = mapping(entry, "opaque", field=field)
    if opaque.get("driver") != DRIVER_NAME:
        _remark(opaque, field=f"{field}.opaque", notes=notes)
        return None
    where = f"{field}.opaque.parameters"
    _refuse_allocation(entry, field=where)
    config = decode_share_config(opaque.get("parameters"), field=where)
    amounts: dict[str, Quantity] = {}
    if config.capacity is not None:
        requests = config.capacity.requests.model_dump(by_alias=True, exclude_none=True)
        amounts = check_amounts(requests, field=f"{where}.capacity.requests", notes=notes)
    return Said(
        field=where,
        requests=names(entry, "requests", field=field, most=MAX_NAMES),
        config=config,
        amounts=amounts,
    )


def _remark(opaque: Mapping[str, Any], *, field: str, notes: Notes) -> None:
    """Warns of parameters of ours that are addressed to somebody else: nobody would read them."""
    parameters = opaque.get("parameters")
    version = parameters.get("apiVersion") if isinstance(parameters, Mapping) else None
    if isinstance(version, str) and version.startswith(f"{DRIVER_NAME}/"):
        notes.warn(
            f"{shown(opaque.get('driver'))} reads no parameters of {DRIVER_NAME}, so they have no effect. "
            f"Did you mean {DRIVER_NAME}?",
            field=f"{field}.driver",
        )


def _refuse_allocation(entry: Mapping[str, Any], *, field: str) -> None:
    try:
        refuse_in_spec([entry], field=field)
    except ConfigError as refused:
        raise ConfigError(refused.message, field=f"{field}.kind", remedy=refused.remedy) from None


def _check_names(requests: Sequence[str], known: frozenset[str], *, field: str) -> None:
    for place, name in enumerate(requests):
        if name not in known:
            listed = ", ".join(sorted(known)[:4])
            raise RequestNameError(
                f"There is no request {shown(name)}.",
                field=f"{field}[{place}]",
                remedy=nearest(name, known) or (f"The requests are {listed}." if listed else ""),
            )


def _compare(one: Said, other: Said, *, label: str, told: set[tuple[str, str, str]], notes: Notes) -> None:
    for name in _DECIDES:
        before, after = getattr(one.config, name), getattr(other.config, name)
        if before == after:
            continue
        if (one.field, other.field, "") not in told:
            told.add((one.field, other.field, ""))
            alias = ShareConfig.model_fields[name].alias or name
            about = f"request {label}" if label else "every request"
            notes.refuse(
                ConfigConflictError(
                    f"For {about} {alias} is {_word(after)}{_unsaid(other, name)} here and {_word(before)}"
                    f"{_unsaid(one, name)} in {one.field}.",
                    field=f"{other.field}.{alias}",
                    remedy="Say it once for each request; `requests` of an entry names those it is for.",
                )
            )
        return


def _unsaid(one: Said, name: str) -> str:
    return "" if name in one.config.model_fields_set else " by default"


def _word(value: Any) -> str:
    if isinstance(value, str):
        return str(value)
    said = value.model_dump(by_alias=True, exclude_none=True, mode="json")
    return ", ".join(f"{name} {level}" for name, level in said.items()) or "not set"
