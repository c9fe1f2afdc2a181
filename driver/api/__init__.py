"""The documents that people and processes exchange with Dragoman, decoded strictly.

`base` holds the pydantic base model; `share_config` the claims' opaque parameters, `share_allocation` what
was given to a claim; `policy` the AcceleratorPolicy; `node` the AcceleratorNode. Each model converts to or
from frozen dataclasses of the domain; nothing behind the border sees pydantic. The CRDs, the chart's schema
and the docs' tables are generated from these models by `hack/generate`.
"""
