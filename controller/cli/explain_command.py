"""`kubectl dragoman explain`.

Limits: the allocator is loaded while the API server answers, and not at all if there is nothing to explain.
"""

from __future__ import annotations

import asyncio

from controller.cli.explain_text import show
from controller.cli.facts import read_facts
from controller.cli.main import ANSWERED, Common
from controller.cli.objects import look_at, parse_what
from controller.cli.reading import Reading
from driver.kube.client import JSON


def run(common: Common, what: str) -> int:
    """Explains a pod or a claim; see `controller.cli.main` for the exit status."""
    kind, name = parse_what(what)

    async def work(reading: Reading, namespace: str) -> JSON:
        # One after the other: a name that is misspelt costs nobody a list of the cluster.
        subject = await look_at(reading, kind, name, namespace=namespace)
        facts, (rules, part) = await asyncio.gather(
            read_facts(reading), common.setup.load("controller.cli.explain")
        )
        found: JSON = part.explanation(subject, facts, rules, everything=common.everything)
        return found

    document = common.ask(work)
    common.show(document, lambda found, screen: show(found, screen, everything=common.everything))
    return ANSWERED
