"""The command line: `kubectl dragoman status | explain | simulate`.

Purpose: whoever has a kubeconfig sees who allocates, what is free, why a pod waits and what a manifest would
get, in mode native and in mode controller alike. Nothing is ever written to the cluster.

Flow: `main` reads flags and loads one command (`status_command`, `explain_command`, `simulate_command`);
`access` finds the API server; `reading` lists what the person may read; a pure part (`status`, `explain`,
`simulate`) makes a document, which `-o json|yaml` prints as it is and `*_text` shows to a person.

Limits: what other parts of the controller know comes in as `rules.Rules`; `controller.kubectl` wires it. A
start loads as little as it can: neither kopf nor aiohttp, and the allocator only where it is asked.
"""
