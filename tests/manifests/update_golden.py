"""Writes the golden renderings anew: hack/python -m tests.manifests.update_golden; look at the difference."""

from __future__ import annotations

from tests.manifests.support.helm import golden_text
from tests.manifests.test_chart import GOLDEN, SETS

for name, values in SETS.items():
    (GOLDEN / f"{name}.yaml").write_text(golden_text(values))
