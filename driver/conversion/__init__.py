"""Pods that ask for extended resources of before, as pods that ask by claim.

Purpose: `nvidia.com/gpumem: 4000` and its kin of thirteen vendors, Intel and Volcano keep working, as the
same pod with a claim that is made and goes with it.

Flow: `convert` at admission gives a patch of the pod; `templates_of` gives, from the pod as it was stored,
the claim templates that the patch named.

Limits: pure. Nothing is made here, and nothing that admission would have to undo.
"""

from driver.conversion.convert import Conversion, convert, names_of, templates_of
from driver.conversion.errors import ConversionError
from driver.conversion.marks import CONVERTED_ANNOTATION, CONVERTED_LABEL, OPT_OUTS, opted_out
from driver.conversion.settings import ConversionSettings
from driver.conversion.stock import CardKind, Stock, stock_of

__all__ = [
    "CONVERTED_ANNOTATION",
    "CONVERTED_LABEL",
    "OPT_OUTS",
    "CardKind",
    "Conversion",
    "ConversionError",
    "ConversionSettings",
    "Stock",
    "convert",
    "names_of",
    "opted_out",
    "stock_of",
    "templates_of",
]
