"""Makes every file of the tree that follows from another one.

Purpose: CRDs, the chart's values and their schema, DeviceClasses, reference tables and the kubelet's
contracts have one source each (pydantic models, the vendors, the tree of errors, the protocol files); nobody
edits the copies.

Flow: `__main__` asks each generator for path and text, and writes what differs or, with `--check`, reports
it.

Limits: a generator is pure: it reads models and returns text. The code of `proto/` is made by
`tooling.protos`.
"""
