# The images of nircam-darks, one target a service, and `cli` for the command line:
#   docker build --target ingest --tag nircam-darks-ingest .
# docs/services.md says how to run them. BASE_IMAGE is any Debian-like image with Python 3.11, 3.12 or 3.13 and venv.
ARG BASE_IMAGE=python:3.11-slim-bookworm

# Everything, with the tools that put it there; none of these layers is in what is delivered.
FROM ${BASE_IMAGE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PATH=/opt/darks/bin:$PATH
COPY requirements.lock /source/
RUN python3 -m venv /opt/darks \
    && python -m pip install --quiet --require-hashes --only-binary :all: -r /source/requirements.lock
COPY . /source/
RUN python -m pip install --quiet --no-deps --no-build-isolation /source \
    && mkdir /parts \
    && python /source/deploy/image/layers.py /parts \
    && install -D --target-directory /opt/darks/libexec /source/deploy/image/start /source/deploy/image/healthy \
    && install -m 644 --target-directory /opt/darks/libexec /source/deploy/image/kernel-cpu \
    && mkdir -p /parts/frame/bin \
    && cp -P /opt/darks/bin/python* /parts/frame/bin/ \
    && cp -R /opt/darks/pyvenv.cfg /opt/darks/libexec /parts/frame/
RUN mkdir /opt/darks/kernels \
    && sh /source/deploy/image/warm.sh /opt/darks/kernels \
    && chmod -R a+rX /opt/darks/kernels \
    && python -m pip uninstall --quiet --yes setuptools wheel pip

# What all of them have in common.
FROM ${BASE_IMAGE} AS frame
# Nothing is installed at run time, and the python images bring a pip of their own to do it with.
RUN rm -rf /usr/local/bin/pip* /usr/local/bin/wheel /usr/local/lib/python3*/site-packages/* /usr/local/lib/python3*/ensurepip
# HOME and all else that is written is in the temporary folder: the only place that need be writable. jwst asks for
# the name of its user, and a number that somebody chose at run time has none but USER.
ENV PATH=/opt/darks/bin:$PATH \
    HOME=/tmp \
    USER=darks \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MPLCONFIGDIR=/tmp \
    CRDS_PATH=/crds
# A number, so that an orchestrator can tell that it is not root without a look into the image.
USER 65532:65532
WORKDIR /tmp
STOPSIGNAL SIGTERM
ENTRYPOINT ["/opt/darks/libexec/start"]
LABEL org.opencontainers.image.title="nircam-darks" \
      org.opencontainers.image.description="JWST NIRCam dark exposures in, dark reference files and noise reports out"

FROM frame AS service
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 CMD ["/opt/darks/libexec/healthy"]

FROM service AS ingest
COPY --from=build /parts/frame/ /opt/darks/
COPY --from=build /parts/darkref-ingest-noise/ /opt/darks/
COPY --from=build /parts/darkref-ingest/ /opt/darks/
COPY --from=build /parts/ingest-noise/ /opt/darks/
COPY --from=build /parts/ingest/ /opt/darks/
COPY --from=build /parts/own-ingest/ /opt/darks/
CMD ["python", "-m", "services.ingest"]
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="nircam-darks-ingest" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

FROM service AS darkref
COPY --from=build /parts/frame/ /opt/darks/
COPY --from=build /parts/darkref-ingest-noise/ /opt/darks/
COPY --from=build /parts/darkref-ingest/ /opt/darks/
COPY --from=build /parts/darkref-noise/ /opt/darks/
COPY --from=build /parts/darkref/ /opt/darks/
COPY --from=build /opt/darks/kernels/ /opt/darks/kernels/
COPY --from=build /parts/own-darkref/ /opt/darks/
CMD ["python", "-m", "services.darkref"]
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="nircam-darks-darkref" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

FROM service AS noise
COPY --from=build /parts/frame/ /opt/darks/
COPY --from=build /parts/darkref-ingest-noise/ /opt/darks/
COPY --from=build /parts/darkref-noise/ /opt/darks/
COPY --from=build /parts/ingest-noise/ /opt/darks/
COPY --from=build /parts/noise/ /opt/darks/
COPY --from=build /opt/darks/kernels/ /opt/darks/kernels/
COPY --from=build /parts/own-noise/ /opt/darks/
CMD ["python", "-m", "services.noise"]
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="nircam-darks-noise" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

# The command line, with everything: topology, status, reconcile, simulate, run, report.
FROM frame AS cli
USER 0
# What `report --format pdf` needs of the system. Debian keeps one version of each, so none can be pinned.
# hadolint ignore=DL3008
RUN apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends libpango-1.0-0 libpangoft2-1.0-0 libharfbuzz-subset0 \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb
USER 65532:65532
COPY --from=build /opt/darks/ /opt/darks/
CMD ["nircam-darks", "--help"]
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="nircam-darks-cli" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
