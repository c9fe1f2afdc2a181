# The image of agent and controller, for those who have a container engine and a registry:
#
#   docker build --tag REGISTRY/dragoman:0.1.0 . && docker push REGISTRY/dragoman:0.1.0
#
# `hack/image` makes the same layout without either, and is what the tests use. This file has not been tried, for want
# of a container engine and a registry.

FROM python:3.11-slim-bookworm AS build
WORKDIR /src
COPY requirements/plugin.txt requirements/controller.txt requirements/
RUN for set in plugin controller; do \
      pip install --no-cache-dir --no-compile --no-deps --require-hashes --only-binary=:all: --upgrade \
        --target /opt/dragoman/lib --requirement "requirements/$set.txt" || exit 1; \
    done && rm -rf /opt/dragoman/lib/bin
COPY pyproject.toml .
# What processes report as their version.
RUN version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml) && \
    folder=/opt/dragoman/app/dragoman-$version.dist-info && mkdir -p "$folder" && \
    printf 'Metadata-Version: 2.1\nName: dragoman\nVersion: %s\n' "$version" > "$folder/METADATA"
COPY controller /opt/dragoman/app/controller
COPY driver /opt/dragoman/app/driver
COPY kubelet_plugin /opt/dragoman/app/kubelet_plugin
# The container's root is read-only: bytecode that is not here would be compiled at every start.
RUN python3 -m compileall -q -f --invalidation-mode unchecked-hash /opt/dragoman /usr/local/lib/python3.11

# The programs that put limits on cgroups. They run on the node itself: the first one is linked statically, the second
# one with NVIDIA's library, which is the node's.
FROM debian:bookworm-slim AS hook
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev
COPY kubelet_plugin/hook /src
WORKDIR /src
RUN mkdir -p /opt/dragoman/hook && \
    gcc -std=gnu11 -O2 -Wall -Wextra -Werror -Wconversion -s -Wl,--build-id=none -static \
      -o /opt/dragoman/hook/dragoman-hook dragoman_hook.c && \
    gcc -shared -fPIC -Wl,-soname,libnvidia-ml.so.1 -o libnvidia-ml.so.1 libnvidia_ml_stub.c && \
    gcc -std=gnu11 -O2 -Wall -Wextra -Werror -Wconversion -s -Wl,--build-id=none -nostartfiles -Wl,-z,lazy \
      -o /opt/dragoman/hook/dragoman-hook-nvml dragoman_hook_nvml.c libnvidia-ml.so.1

FROM python:3.11-slim-bookworm
COPY --from=build /usr/local/lib/python3.11 /usr/local/lib/python3.11
COPY --from=build /opt/dragoman /opt/dragoman
COPY --from=hook /opt/dragoman/hook /opt/dragoman/hook
# With `hack/preload-library --output libvgpu.so` run before, add this line:
# COPY --chmod=755 libvgpu.so /opt/dragoman/preload/libvgpu.so
ENV HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONNOUSERSITE=1 \
    PYTHONPATH=/opt/dragoman/app:/opt/dragoman/lib \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1 \
    USER=dragoman
LABEL org.opencontainers.image.title=dragoman org.opencontainers.image.licenses=Apache-2.0
USER 65532:65532
WORKDIR /
CMD ["python3", "-m", "controller"]
