# The appliance: supervisor, enclave and gateway. Needs no network: `make wheels` has fetched what the locks name.
#
#   make image                                        with any builder that reads this file
#   podman run -v ./appliance:/federation IMAGE       a folder with appliance.toml, agreement and layout
#
# The base is any Debian bookworm; the packages are Debian's Python 3.11 and nothing else. Pin BASE by digest.
ARG BASE=docker.io/library/debian:bookworm-slim

FROM ${BASE} AS build
RUN command -v python3 >/dev/null && python3 -c 'import venv, ensurepip' 2>/dev/null || \
    { apt-get update && apt-get install -y --no-install-recommends python3 python3-venv && rm -rf /var/lib/apt/lists/*; }
# torch by version, everything else by hash, all of it from the folder of wheels.
RUN --mount=type=bind,source=build/wheels,target=/wheels \
    --mount=type=bind,source=locks,target=/locks \
    python3 -m venv /opt/pip && python3 -m venv --without-pip /opt/strongroom && \
    install="/opt/pip/bin/pip --python /opt/strongroom/bin/python install \
        --no-index --find-links /wheels --no-deps --no-compile" && \
    $install torch==2.13.0 && $install --require-hashes -r /locks/appliance.txt && $install strongroom

FROM ${BASE} AS appliance
RUN command -v python3 >/dev/null || \
    { apt-get update && apt-get install -y --no-install-recommends python3 && rm -rf /var/lib/apt/lists/*; }
COPY --from=build /opt/strongroom /opt/strongroom
# Nothing in it gives more rights than it is started with.
RUN mkdir /federation && chown 64101:64100 /federation && find / -xdev -perm /6000 -type f -exec chmod a-s {} +
ENV PATH=/opt/strongroom/bin:/usr/bin:/bin PYTHONDONTWRITEBYTECODE=1
USER 64101:64100
WORKDIR /federation
VOLUME /federation
EXPOSE 7100 7101
STOPSIGNAL SIGTERM
LABEL org.opencontainers.image.title="strongroom appliance" \
      org.opencontainers.image.licenses="Apache-2.0"
ENTRYPOINT ["strongroom"]
CMD ["appliance", "serve", "--config", "/federation/appliance.toml"]
