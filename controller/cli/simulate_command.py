"""`kubectl dragoman simulate`.

Limits: the allocator is loaded while the API server answers, and not at all for a file that cannot be read.
"""

from __future__ import annotations

import asyncio

from controller.cli.facts import read_facts
from controller.cli.main import ANSWERED, DOES_NOT_FIT, Common
from controller.cli.manifest import read_manifest
from controller.cli.objects import TEMPLATES
from controller.cli.reading import Reading
from controller.cli.simulate_text import show
from driver.errors import KubeError
from driver.kube.client import JSON
from driver.kube.resources import RESOURCE_CLAIMS


def run(common: Common, filename: str) -> int:
    """Simulates a manifest; see `controller.cli.main` for the exit status."""

    async def work(reading: Reading, namespace: str) -> JSON:
        manifest = read_manifest(filename, namespace=namespace)
        facts, (rules, part) = await asyncio.gather(
            read_facts(reading), common.setup.load("controller.cli.simulate")
        )
        if not facts.needed:
            raise KubeError(
                f"What is free cannot be seen: you lack the right to {'; '.join(facts.lacking)}.",
                remedy="Ask whoever runs the cluster for it, or have them run this command.",
            )
        stored = part.missing_objects(manifest)
        for resource, wanted in ((RESOURCE_CLAIMS, stored.claims), (TEMPLATES, stored.templates)):
            for where, name in wanted:
                wanted[where, name] = await reading.one(resource, name, namespace=where)
        found: JSON = part.simulation(manifest, stored, facts, rules, everything=common.everything)
        return found

    document = common.ask(work)
    common.show(document, lambda found, screen: show(found, screen, everything=common.everything))
    return ANSWERED if document["fits"] else DOES_NOT_FIT
