# The image of Metaflowbot: everything that it needs to answer without a network, and no tools to
# build with. Another base with Python 3.11+ as `python3` may be named: --build-arg PYTHON_IMAGE=…
ARG PYTHON_IMAGE=python:3.12-slim

FROM ${PYTHON_IMAGE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
RUN python3 -m venv /opt/metaflowbot
# The lock file changes seldom and the code often: so this layer is used again.
COPY requirements.lock ./
RUN /opt/metaflowbot/bin/pip install --require-hashes --no-deps -r requirements.lock
# tiktoken's encodings, which it would download at the first question. Without them tokens are
# estimated, so the image is good without.
COPY deploy/encodings.txt ./
RUN mkdir /opt/metaflowbot/tiktoken \
  && { /opt/metaflowbot/bin/pip install --require-hashes --no-deps --no-compile \
         --target /tmp/encodings -r encodings.txt \
       && cp /tmp/encodings/llama_index/core/_static/tiktoken_cache/* /opt/metaflowbot/tiktoken/ \
       || echo "The token encodings could not be fetched: tokens will be estimated."; }
COPY pyproject.toml README.md LICENSE ./
COPY prompts prompts
COPY evals evals
COPY ingest ingest
COPY metaflowbot metaflowbot
RUN /opt/metaflowbot/bin/pip install --no-deps . \
  && /opt/metaflowbot/bin/pip uninstall --yes pip

FROM ${PYTHON_IMAGE}
# git fetches the docs; the newest that the distribution has is the one with its fixes.
# hadolint ignore=DL3008
RUN apt-get update \
  && apt-get install --yes --no-install-recommends ca-certificates git \
  && rm -rf /var/lib/apt/lists/* /usr/local/lib/python3*/site-packages/pip* /usr/local/bin/pip* \
  && groupadd --gid 10001 metaflowbot \
  && useradd --uid 10001 --gid metaflowbot --home-dir /data --no-create-home metaflowbot \
  && install --directory --owner=metaflowbot --group=metaflowbot --mode=0750 /data
COPY --from=build /opt/metaflowbot /opt/metaflowbot
# USERNAME is what Metaflow asks for. The token that hadolint sees is in a folder's name.
# hadolint ignore=DL3064
ENV PATH=/opt/metaflowbot/bin:$PATH \
    HOME=/data \
    USERNAME=metaflowbot \
    METAFLOWBOT_HOME=/data \
    TIKTOKEN_CACHE_DIR=/opt/metaflowbot/tiktoken \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s CMD ["python3", "-c", \
  "from urllib.request import urlopen; urlopen('http://127.0.0.1:8080/healthz', timeout=4)"]
ENTRYPOINT ["metaflowbot"]
CMD ["serve", "--host", "0.0.0.0"]
