"""AcceleratorQuota: how much of the cluster's accelerators the claims of one namespace may ask for.

Flow: the validating webhook holds each claim against all quotas of its namespace and writes a reservation
into their status; the controller counts what is stored and takes reservations away again
(`driver.quota` computes, `controller.quota` writes).

Limits: counts what claims ask for, not what they were given: it is known before anything is allocated, and it
never changes while a claim lives.
"""

from __future__ import annotations

from pydantic import Field, field_validator, model_validator

from driver.api.base import Document
from driver.errors import QuantityError
from driver.quantities import MAX_AMOUNT, MIB, parse_quantity

MAX_RESERVATIONS = 2048
"""Reservations that a quota holds at once: an object has at most 1.5 MiB, and one takes about 250 bytes."""


class QuotaAmounts(Document):
    """Amounts of a quota; what is left out is not limited."""

    memory: int | str | None = Field(
        default=None, description="Memory of all cards and shares together, in whole MiB, such as 64Gi."
    )
    cores: int | str | None = Field(
        default=None,
        description="Compute in percent, 100 for each card: 250 is that of two cards and a half.",
    )
    cards: int | str | None = Field(
        default=None, description="How many cards or shares of cards, each of them counting as one."
    )

    @field_validator("memory")
    @classmethod
    def _whole_mib(cls, value: int | str | None) -> int | str | None:
        if value is not None and _whole(value) % MIB:
            raise ValueError(f"{value!r} is not a whole number of MiB, such as 64Gi")
        return value

    @field_validator("cores", "cards")
    @classmethod
    def _number(cls, value: int | str | None) -> int | str | None:
        if value is not None:
            _whole(value)
        return value

    @property
    def memory_mib(self) -> int | None:
        """Memory in MiB; None if it is not limited."""
        return None if self.memory is None else _whole(self.memory) // MIB

    @property
    def cores_percent(self) -> int | None:
        """Compute in percent; None if it is not limited."""
        return None if self.cores is None else _whole(self.cores)

    @property
    def card_count(self) -> int | None:
        """How many cards or shares; None if that is not limited."""
        return None if self.cards is None else _whole(self.cards)


class AcceleratorQuotaSpec(Document):
    """What is limited, and for which claims."""

    hard: QuotaAmounts = Field(
        default=QuotaAmounts(), description="What all claims of the namespace may ask for together."
    )
    max_per_claim: QuotaAmounts = Field(
        default=QuotaAmounts(), description="What a single claim may ask for at most."
    )
    device_class_names: tuple[str, ...] = Field(
        default=(), description="Only requests of these DeviceClasses count; empty: those of all classes."
    )
    vendors: tuple[str, ...] = Field(
        default=(),
        description="Only requests that can get a card of these vendors count; empty: all vendors.",
    )
    models: tuple[str, ...] = Field(
        default=(),
        description="Only requests that can get a card of these models (in any case) count; empty: all.",
    )
    whole_card_memory: int | str | None = Field(
        default=None,
        description="What a request that names no memory counts, since it gets a whole card. If left out: as "
        "much as the largest card of the cluster has that it can get.",
    )

    @field_validator("whole_card_memory")
    @classmethod
    def _whole_mib(cls, value: int | str | None) -> int | str | None:
        if value is not None and (_whole(value) % MIB or not _whole(value)):
            raise ValueError(f"{value!r} is not a whole number of MiB above 0, such as 80Gi")
        return value

    @model_validator(mode="after")
    def _limits_something(self) -> AcceleratorQuotaSpec:
        given = (self.hard, self.max_per_claim)
        if all(one.memory is None and one.cores is None and one.cards is None for one in given):
            raise ValueError("Nothing is limited; give memory, cores or cards in hard or in maxPerClaim")
        return self

    @property
    def whole_card_mib(self) -> int | None:
        """What a whole card counts, in MiB; None if the cluster's cards say it."""
        return None if self.whole_card_memory is None else _whole(self.whole_card_memory) // MIB


class QuotaReservation(Document):
    """A claim that was admitted and is not counted yet."""

    uid: str = Field(description="UID of the claim.")
    request: str = Field(default="", description="UID of the admission request.")
    name: str = Field(default="", description="Name of the claim.")
    memory_mib: int = Field(alias="memoryMiB", description="Memory in MiB.")
    cores: int = Field(description="Compute in percent.")
    cards: int = Field(description="Cards or shares of cards.")
    expires: str = Field(description="When it ends, should the claim never be stored.")


class AcceleratorQuotaStatus(Document):
    """How much is used; written by the controller and the webhook alone."""

    observed_generation: int | None = Field(default=None, description="Generation of the spec that was read.")
    hard: QuotaAmounts | None = Field(default=None, description="The limits in force.")
    used: QuotaAmounts | None = Field(
        default=None, description="What the claims of the namespace ask for, reservations included."
    )
    counted_version: str | None = Field(
        default=None, description="Resource version up to which claims are counted in `used`."
    )
    reservations: tuple[QuotaReservation, ...] = Field(
        default=(), description="Claims that were admitted and are not counted yet."
    )


def _whole(value: int | str) -> int:
    """A number of 0 or more.

    Raises:
        ValueError: It is none.
    """
    try:
        amount = parse_quantity(str(value))
    except QuantityError as invalid:
        raise ValueError(str(invalid)) from None
    if not amount.is_integer or amount.nano < 0:
        raise ValueError(f"{value!r} is not a whole number, 0 or more")
    if amount.rounded_up > MAX_AMOUNT:
        raise ValueError(f"{value!r} is more than can be counted with; leave out what is not to be limited")
    return amount.rounded_up
