FROM python:3.13-slim AS build
WORKDIR /src
RUN python -m venv /opt/venv
COPY . .
RUN /opt/venv/bin/pip install --no-cache-dir .

FROM python:3.13-slim
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# The named volume takes its owner from this folder.
RUN useradd --uid 1000 --create-home xenaer && mkdir /run/xenaer && chown xenaer /run/xenaer
COPY --from=build /opt/venv /opt/venv
COPY hosts /app/hosts
COPY campaigns /app/campaigns
WORKDIR /app
USER xenaer
ENTRYPOINT ["xenaer"]
