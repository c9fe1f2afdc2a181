"""The heart of the node agent: from an allocated claim to CDI devices, and back, whatever dies in between.

Purpose: decide and do what NodePrepareResources and NodeUnprepareResources mean. No gRPC, no discovery and no
HTTP here: cards, claims, pods and the kubelet's list of claims in use come through Protocols.

Flow of a first prepare (`engine`):

    fetch       claim and its pods                                     claims, pods      event loop
    guard       allocation -> shares; methods; rules over containers   shares_of, plan   event loop, thread
    state       temporary file, fsync, [flock: check-and-reserve, rename], fsync of the folder     thread
    isolation   what limits need on the node                           effects           thread
    cdi         temporary file, fsync, rename, fsync of the folder     cdi_files         thread
    reply

Between the brackets no fsync happens, so claims of different UIDs overlap and the lock is held for
microseconds. Killed before the rename, nothing of the claim is left but a temporary file that the next start
removes; killed after it, the record tells all that is needed to finish or to undo.

Limits: CDI ids and devices of a claim are functions of its UID and allocation alone, so a repeated prepare
answers the same for ever.
"""
