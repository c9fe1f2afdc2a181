import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """A folder whose path leaves room for a socket's name: AF_UNIX paths have at most 107 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="dg-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
