"""The commands of hack/: one module or package each, imported with hack/ on PYTHONPATH.

`tooling.cluster` and `tooling.oci` need nothing but the standard library: they run before any environment.
"""
