# RankViz for a Docker Space or a team's server; docs/spaces.md and docs/server.md show how to start it.
#   docker build -t rankviz .                            the page without training
#   docker build -t rankviz --build-arg TRAINER=cuda .   training on an NVIDIA GPU (docker run --gpus all)
#   ... --build-arg TRAINER=cpu --build-arg TORCH_INDEX=…   training on the CPU
#   ... --build-arg EXTRAS="trackio mcp"                 also with the extras of these names (requirements-*.txt)
# It listens on every address, so its page is a shared one; for a page of your own: docker run -e RANKVIZ_SHARED=false.
# The release of Python and of Debian are named, so that an image that is built again is the same; a digest goes further:
#   --build-arg BASE=python@sha256:...
ARG BASE=python:3.11.14-slim-trixie
FROM $BASE
ARG TRAINER=none
ARG EXTRAS=""
# Where pip finds PyTorch for the CPU alone: the address that PyTorch's installation page names for it. The usual index
# has PyTorch for Linux with CUDA only, which takes gigabytes more, so TRAINER=cpu does not build without.
ARG TORCH_INDEX=""

# tini ends the app when the container is stopped, which the first process of a container is not by itself. Unsloth and
# Triton compile small kernels when they train.
RUN case "$TRAINER" in \
        none) compilers="" ;; \
        cpu|cuda) compilers="gcc g++" ;; \
        *) echo "TRAINER must be cpu, cuda or none (got $TRAINER)." >&2; exit 1 ;; \
    esac; \
    if [ "$TRAINER" = cpu ] && [ -z "$TORCH_INDEX" ]; then \
        echo "TRAINER=cpu needs --build-arg TORCH_INDEX: the address of PyTorch for the CPU, from its installation page." >&2; \
        exit 1; \
    fi; \
    apt-get update && apt-get install -y --no-install-recommends tini $compilers && rm -rf /var/lib/apt/lists/*

# A volume at the runs folder takes over its owner.
RUN useradd --create-home --uid 1000 user && install --directory --owner user /data
USER user
WORKDIR /home/user/app
ENV PATH=/home/user/.local/bin:$PATH

# The libraries change less often than RankViz does, so their layer comes first.
COPY --chown=user requirements.txt requirements-train.txt requirements-trackio.txt requirements-ray.txt \
    requirements-mcp.txt requirements-png.txt constraints.txt ./
RUN case "$TRAINER" in \
        none) more="" ;; \
        cpu) more="-r requirements-train.txt --extra-index-url $TORCH_INDEX" ;; \
        cuda) more="-r requirements-train.txt" ;; \
    esac; \
    for extra in $EXTRAS; do more="$more -r requirements-$extra.txt"; done; \
    pip install --no-cache-dir --user -c constraints.txt -r requirements.txt "gradio[oauth]" $more && \
    { [ "$TRAINER" != cpu ] || python -c "import torch; raise SystemExit(torch.version.cuda and f'{torch.__version__} is built for CUDA: check TORCH_INDEX.')"; }

COPY --chown=user pyproject.toml hatch_build.py README.md LICENSE ./
COPY --chown=user rankviz rankviz
COPY --chown=user assets assets
RUN pip install --no-cache-dir --user --no-deps .

ENV GRADIO_SERVER_NAME=0.0.0.0 \
    GRADIO_SERVER_PORT=7860 \
    RANKVIZ_HOME=/data \
    RANKVIZ_SHARED=true
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD python -c "import json, os, urllib.request as u; url = 'http://127.0.0.1:' + os.environ['GRADIO_SERVER_PORT'] + '/rankviz/health'; raise SystemExit(not json.load(u.urlopen(url, timeout=4))['home_writable'])"
ENTRYPOINT ["tini", "--"]
CMD ["rankviz", "serve"]
