# syntax=docker/dockerfile:1
# The images of the distributed profile: `airis` for all services of ours, `elasticsearch` with Korean analysis, `jaeger`
# with a folder for its data.
# Tags are pinned; add the digests (`@sha256:…`) that your registry gives for them.

FROM python:3.11.15-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /build
COPY deploy/containers/build-requirements.lock requirements.runtime.lock ./
# What builds wheels stays in this stage. One package of the lock comes as source; its hash is checked like the others'.
RUN python -m venv tools \
    && tools/bin/pip install --only-binary :all: --require-hashes -r build-requirements.lock \
    && tools/bin/pip wheel --no-deps --no-build-isolation --require-hashes --wheel-dir wheels -r requirements.runtime.lock
COPY pyproject.toml README.md ./
COPY services services
COPY resilience resilience
COPY gen gen
COPY client client
RUN tools/bin/pip wheel --no-deps --no-build-isolation --wheel-dir wheels . \
    && python -m venv --without-pip /opt/airis \
    && tools/bin/pip --python /opt/airis/bin/python install --no-index --no-deps --compile wheels/*.whl \
    && tools/bin/pip --python /opt/airis/bin/python check

FROM python:3.11.15-slim-bookworm AS airis
# Volumes that are new take the owner of these folders: keys in the one, what is published of them in the other.
RUN groupadd --gid 10001 airis \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/airis --shell /usr/sbin/nologin airis \
    && install --directory --owner=10001 --group=10001 --mode=0700 /var/lib/airis /run/airis
COPY --from=build /opt/airis /opt/airis
# Where the program looks for them from: `airis mesh bootstrap` makes Envoy's configuration of them.
COPY envoy/distributed.yaml /opt/airis/lib/python3.11/site-packages/envoy/distributed.yaml
COPY gen/airis.binpb /opt/airis/lib/python3.11/site-packages/gen/airis.binpb
COPY --chmod=0755 deploy/containers/airis.sh /usr/local/bin/airis-container
ENV PATH=/opt/airis/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONSAFEPATH=1 \
    AIRIS_PROFILE=distributed \
    AIRIS_DATA_DIR=/var/lib/airis
WORKDIR /var/lib/airis
USER 10001:10001
EXPOSE 8001 8002 8003 8004 9101 9102 9103 9104
STOPSIGNAL SIGTERM
ENTRYPOINT ["airis-container"]
CMD ["python", "-m", "services", "metrics"]
HEALTHCHECK --interval=10s --timeout=8s --start-period=60s --retries=3 \
    CMD ["python", "-m", "services.healthcheck", "metrics"]

FROM docker.elastic.co/elasticsearch/elasticsearch:9.5.3 AS elasticsearch
RUN bin/elasticsearch-plugin install --batch analysis-nori
COPY --chmod=0755 deploy/containers/elasticsearch.sh /usr/local/bin/airis-elasticsearch
USER 1000:0
STOPSIGNAL SIGTERM
ENTRYPOINT ["airis-elasticsearch"]
HEALTHCHECK --interval=10s --timeout=8s --start-period=120s --retries=6 \
    CMD ["airis-elasticsearch", "check"]

FROM jaegertracing/jaeger:2.13.0 AS jaeger
# A new volume takes the owner of this empty folder.
COPY --from=airis --chown=10001:10001 /run/airis /badger
USER 10001:10001
STOPSIGNAL SIGTERM
CMD ["--config", "/etc/jaeger/config.yaml"]
