# The one image, of every role. BASE is Python 3.11 or newer with glibc and util-linux, such as the official slim images.
ARG BASE=python:3.12-slim

FROM ${BASE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
RUN python3 -m venv /opt/windlass
ENV PATH=/opt/windlass/bin:$PATH
# What Windlass needs: exactly what the lock file names, by hash, and no source that would have to be compiled.
COPY requirements-image.lock ./
RUN pip install --only-binary=:all: --require-hashes -r requirements-image.lock
# Windlass itself: its wheel, built once. Then the tools of the build are removed.
COPY LICENSE README.md pyproject.toml ./
COPY src src
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
    && pip install --no-deps --no-index /wheels/*.whl \
    && pip uninstall --yes editables hatchling pathspec trove-classifiers \
    && pip uninstall --yes pip

FROM ${BASE}
ARG VERSION=0.3.0.dev0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Windlass" \
      org.opencontainers.image.description="A distributed job scheduler for containers." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
RUN echo 'windlass:x:10001:10001::/var/lib/windlass:/bin/sh' >> /etc/passwd \
    && echo 'windlass:x:10001:' >> /etc/group \
    && mkdir -p /var/lib/windlass \
    && chown 10001:10001 /var/lib/windlass
COPY deploy/compose/bin/ /usr/local/bin/
COPY --from=build /opt/windlass /opt/windlass
# HEALTH_URL is what the health check asks; an API has a better one, http://127.0.0.1:8000/readyz.
ENV PATH=/opt/windlass/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    HEALTH_URL=http://127.0.0.1:9464/metrics \
    WINDLASS_METRICS_HOST=0.0.0.0 \
    WINDLASS_METRICS_PORT=9464 \
    WINDLASS_WORKER_DATA=/var/lib/windlass/worker
USER 10001:10001
WORKDIR /var/lib/windlass
EXPOSE 8000 9464
HEALTHCHECK --interval=10s --timeout=15s --start-period=30s CMD ["windlass-health"]
ENTRYPOINT ["windlass"]
CMD ["--help"]
