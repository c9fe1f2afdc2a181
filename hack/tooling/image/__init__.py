"""Makes the project's container image without a registry and without a container engine.

Purpose: one image for agent and controller, as a tar that `ctr images import`, `docker load` and `kind load
image-archive` take.

Flow: `base` makes Debian's root file system with Python (minutes saved by a cache); `wheels` installs
the locked sets for exactly that Python; `code` copies the three packages; both compile bytecode; `build`
packs the layers with `tooling.oci` under a name made of a hash of all that went in; `push` hands the tar
to a tool that can push.

Limits: needs root (debootstrap), a Debian mirror and a package index. One architecture: the machine's own.
"""
