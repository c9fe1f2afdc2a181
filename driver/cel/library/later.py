"""Functions that Kubernetes' selectors know and ours do not yet.

Purpose: "not supported yet" instead of "no such function", so that nobody looks for a typing error.

Flow: the checker looks a name up here before it says that a function does not exist.

Limits: names only; macros stand here too, since they look like methods.
"""

from __future__ import annotations

_MACROS = """
    all exists exists_one existsOne map filter transformList transformMap transformMapEntry sortBy
    cel.bind optMap optFlatMap
"""
_CONVERSIONS = "int uint double string bytes bool dyn type duration timestamp"
_OPTIONALS = "optional.ofNonZeroValue optional.unwrap unwrapOpt first last"
_STRINGS_AND_LISTS = """
    charAt indexOf lastIndexOf lowerAscii upperAscii replace split join substring trim reverse format
    strings.quote find findAll isSorted sum min max distinct flatten lists.range slice sort includes
    sets.contains sets.intersects sets.equivalent
"""
_NETWORK = """
    ip isIP ip.isCanonical family isUnspecified isLoopback isLinkLocalMulticast isLinkLocalUnicast
    isGlobalUnicast cidr isCIDR containsIP containsCIDR masked prefixLength url isURL getScheme getHost
    getHostname getPort getEscapedPath getQuery
"""
_FORMATS_AND_TIME = """
    format.named validate
    getFullYear getMonth getDayOfYear getDayOfMonth getDate getDayOfWeek getHours getMinutes getSeconds
    getMilliseconds
"""

NOT_YET = frozenset(
    name
    for names in (_MACROS, _CONVERSIONS, _OPTIONALS, _STRINGS_AND_LISTS, _NETWORK, _FORMATS_AND_TIME)
    for name in names.split()
)
NOT_YET_NAMES = frozenset(
    {"int", "uint", "double", "string", "bytes", "bool", "list", "map", "null_type", "type"}
)
NOT_YET_SPACES = frozenset(
    {"format", "google", "sets", "lists", "strings", "cel", "kubernetes", "math", "net"}
)
