# passkb in a container. Every step that installs something is a target of the Makefile; tests/test_ground.py keeps them in step.
#
#   docker build -t passkb .                      the app
#   docker build --target gpu -t passkb:gpu .     the same with vLLM beside it, for machines with an NVIDIA GPU
#   docker run -p 7860:7860 -v ~/vault:/vault:ro -v passkb:/data -e PASSKB_AUTH passkb      with PASSKB_AUTH=USER:PASSWORD set

FROM python:3.11-slim AS base
RUN apt-get update \
 && apt-get install -y --no-install-recommends make gcc libc6-dev bubblewrap \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --create-home --uid 1000 passkb \
 && mkdir /data /app && chown passkb:passkb /data /app
USER passkb
WORKDIR /app
ENV PASSKB_HOME=/data PASSKB_HOST=0.0.0.0 PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1
# The dependencies are a layer of their own: only a changed lock or Makefile downloads them again.
COPY --chown=passkb:passkb Makefile ./
COPY --chown=passkb:passkb locks locks
RUN make deps

VOLUME /data
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
  CMD [".venv/bin/python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:7860/healthz', timeout=4)"]
# Reachable from outside the container, so it wants PASSKB_AUTH=USER:PASSWORD and says so when it is missing.
CMD [".venv/bin/passkb", "serve"]

FROM base AS vllm
RUN make vllm VLLM=cuda

FROM vllm AS gpu
COPY --chown=passkb:passkb . .
RUN make install

FROM base AS app
COPY --chown=passkb:passkb . .
RUN make install
