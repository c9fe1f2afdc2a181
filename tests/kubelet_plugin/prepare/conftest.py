from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.node_world import World

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(params=[False, True], ids=["loop", "quick"])
def world(tmp_path: Path, request: pytest.FixtureRequest) -> World:
    """A node; each test runs both ways that a prepare can go, and may tell no difference."""
    return World(tmp_path, quick=request.param)
