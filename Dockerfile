# Serves one exported bundle, mounted at /bundle:
#   docker build -t tinybert-serve .
#   docker run --rm -p 8080:8080 -v "$PWD/runs/demo/int8:/bundle:ro" tinybert-serve
FROM python:3.12-slim

ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore \
    PYTHONUNBUFFERED=1

# a number below, so that Kubernetes' runAsNonRoot can see that it is not root
RUN useradd --system --no-log-init --uid 10001 serve

WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY toolkit toolkit
COPY export export
COPY serve serve
# this directory has no version to pin (DL3013), and the brackets are an extra, not a pattern (SC2102)
# hadolint ignore=DL3013,SC2102
RUN pip install .[serve]

USER 10001
WORKDIR /

EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=15s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/health', timeout=4)"]

CMD ["python", "-m", "serve", "/bundle", "--host", "0.0.0.0", "--port", "8080", "--log-format", "json"]
