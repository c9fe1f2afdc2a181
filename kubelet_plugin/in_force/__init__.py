"""Whether limits hold, and what is used: what is seen of running containers.

Flow: `watch` goes round every few seconds: `containers` (which containers of the node can use which
prepared shares) -> `processes` (their processes) -> `looks` (one look at each container, bounded in time) ->
`inspection` (the verb *in_force?* of each method that holds a dimension; `proofs` says of which processes) ->
`book` (verdicts, damped) -> the claims' status, Events, metrics. `usage` reads what HAMi-core counts in its
shared regions; for shares whose cap holds only while others use the card `relief` writes who is alone, and
`priority` who waits.

Limits: nothing of it is imported before the first limited share is prepared; all reads of the node are in
threads, with bounds; a round that is late is not made up for.
"""
