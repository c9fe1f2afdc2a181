"""`kubectl dragoman status`."""

from __future__ import annotations

from datetime import UTC, datetime

from controller.cli.facts import read_facts
from controller.cli.main import ANSWERED, Common
from controller.cli.reading import VERSION, Reading
from controller.cli.status import status_of
from controller.cli.status_text import show
from driver.errors import KubeError
from driver.kube.client import JSON


def run(common: Common) -> int:
    """Shows how things are; see `controller.cli.main` for the exit status."""

    async def work(reading: Reading, _namespace: str) -> JSON:
        facts = await read_facts(reading, classes=False, nodes=False, policies=True)
        lacking = [one for one in facts.lacking if one != VERSION]
        if lacking:
            # Without one of the lists the others would say that nobody allocates, or that all is free.
            raise KubeError(
                f"Who allocates and what is free cannot be seen: you lack the right to {'; '.join(lacking)}.",
                remedy="Ask whoever runs the cluster for it, or choose another --context.",
            )
        return status_of(facts, now=datetime.now(UTC))

    document = common.ask(work)
    common.show(document, lambda found, screen: show(found, screen, everything=common.everything))
    return ANSWERED
