"""How pods are converted, as the chart says it.

Flow: JSON in `DRAGOMAN_CONVERSION` -> `conversion_settings` -> `driver.conversion.ConversionSettings`.
"""

from __future__ import annotations

import json

from pydantic import Field

from driver.api.base import Document, decode
from driver.api.share_config import CorePolicy
from driver.conversion import ConversionSettings
from driver.errors import ConfigError

FIELD = "--conversion"


class ConversionDocument(Document):
    """The chart's `controller.conversion`, without what is only for the API server."""

    default_memory_mib: int = Field(default=0, ge=0, alias="defaultMemoryMib")
    default_cores: int = Field(default=0, ge=0, le=100)
    default_count: int = Field(default=1, ge=0)
    core_policy: CorePolicy = CorePolicy.FORCE
    memory_factors: dict[str, int] = Field(default={})
    renamed: dict[str, str] = Field(default={})
    left_alone: list[str] = Field(default=[])
    schedulers: dict[str, str] = Field(default={"hami-scheduler": "default-scheduler", "volcano": ""})


def conversion_settings(text: str) -> ConversionSettings | None:
    """Reads the setting; None if it is empty: nothing is converted then.

    Raises:
        ConfigError: It is no JSON, or says what is not known.
    """
    if not text:
        return None
    try:
        found = json.loads(text)
    except ValueError:
        raise ConfigError("This is no JSON.", field=FIELD, remedy="Write {} for the defaults.") from None
    if not isinstance(found, dict):
        raise ConfigError("This is no object.", field=FIELD, remedy="Write {} for the defaults.")
    said = decode(ConversionDocument, found, field=FIELD)
    return ConversionSettings(
        default_memory_mib=said.default_memory_mib,
        default_cores=said.default_cores,
        default_count=said.default_count,
        core_policy=said.core_policy,
        memory_factors=said.memory_factors,
        renamed=said.renamed,
        left_alone=frozenset(said.left_alone),
        schedulers=said.schedulers,
    )
