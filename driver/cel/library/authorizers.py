"""The API server's library for authorization checks.

Purpose: selectors know these functions but no value to call them on, so that they compile where the type of
a value is unknown, and then fail.

Flow: overloads that never run.

Limits: none of the types here has a value.
"""

from __future__ import annotations

from typing import Any

from driver.cel.library.entry import overload
from driver.cel.values import no_overload

_SIGNATURES = """
    serviceAccount(authorizer, string, string) -> authorizer
    path(authorizer, string) -> path_check
    group(authorizer, string) -> group_check
    resource(group_check, string) -> resource_check
    subresource(resource_check, string) -> resource_check
    namespace(resource_check, string) -> resource_check
    name(resource_check, string) -> resource_check
    fieldSelector(resource_check, string) -> resource_check
    labelSelector(resource_check, string) -> resource_check
    check(path_check, string) -> decision
    check(resource_check, string) -> decision
    allowed(decision) -> bool
    reason(decision) -> string
    error(decision) -> string
    errored(decision) -> bool
"""


def _register() -> None:
    for signature in filter(None, map(str.strip, _SIGNATURES.splitlines())):
        name = signature.partition("(")[0]

        def run(*args: Any, name: str = name) -> Any:
            raise no_overload(name, *args)

        overload(signature, method=True)(run)


_register()
