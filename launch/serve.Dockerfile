# The server in a container: docker build -f launch/serve.Dockerfile -t ttc-serve .
#   docker run -p 8000:8000 -e TTC_API_KEYS=$(openssl rand -hex 32) ttc-serve
# On TPU VMs: --build-arg EXTRAS=serve,tpu, and docker run --privileged --net=host.
FROM python:3.12-slim
ARG EXTRAS=serve
WORKDIR /opt/ttc
COPY pyproject.toml README.md LICENSE ./
COPY ttc_jax ttc_jax
COPY configs configs
RUN pip install --no-cache-dir ".[${EXTRAS}]" && useradd --create-home ttc
USER ttc
WORKDIR /home/ttc
EXPOSE 8000
HEALTHCHECK --start-period=10m CMD ["python", "-c", \
  "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health', timeout=5)"]
# Without keys it refuses to listen to others than this container.
ENTRYPOINT ["ttc", "serve", "--config.serve.host=0.0.0.0"]
CMD ["--config=serve"]
