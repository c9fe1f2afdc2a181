"""Writes the golden files anew: `hack/python -m tests.driver.conversion.update_golden`; look at them."""

from __future__ import annotations

from tests.driver.conversion.golden_files import answered, files, read, text_of

for path in files():
    path.write_text(text_of(answered(read(path))), encoding="utf-8")
