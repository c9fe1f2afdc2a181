"""`kubectl dragoman explain`."""

from __future__ import annotations

import asyncio

from controller.cli.explain import explanation
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
        facts = await read_facts(reading)
        rules = await asyncio.to_thread(common.setup.rules)
        return explanation(subject, facts, rules, everything=common.everything)

    document = common.ask(work)
    common.show(document, lambda found, screen: show(found, screen, everything=common.everything))
    return ANSWERED
