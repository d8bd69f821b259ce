# RankViz: the same app in a container. CPU by default; `docker run --gpus all` where the host has CUDA.
FROM python:3.11-slim

# Unsloth compiles small kernels when it trains.
RUN apt-get update && apt-get install -y --no-install-recommends gcc g++ \
    && rm -rf /var/lib/apt/lists/*

RUN useradd --create-home --uid 1000 user
USER user
WORKDIR /home/user/app
ENV PATH=/home/user/.local/bin:$PATH

# The libraries change less often than RankViz does, so their layer comes first.
COPY --chown=user requirements.txt .
RUN pip install --no-cache-dir --user -r requirements.txt

COPY --chown=user pyproject.toml hatch_build.py README.md LICENSE ./
COPY --chown=user rankviz rankviz
COPY --chown=user assets assets
RUN pip install --no-cache-dir --user --no-deps .

ENV GRADIO_SERVER_NAME=0.0.0.0 \
    GRADIO_SERVER_PORT=7860 \
    RANKVIZ_HOME=/home/user/.rankviz
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD python -c "import urllib.request as u; u.urlopen('http://127.0.0.1:7860/', timeout=4)"
CMD ["rankviz", "serve"]
