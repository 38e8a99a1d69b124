# Images under the names of docker-compose.yml, where no registry can be reached. PostgreSQL, and
# Temporal's production server with its tools, are real; Temporal's pages and Trino are a server that
# answers at their port.
FROM python:3.13-slim-trixie AS postgres
RUN apt-get update && \
    DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends postgresql-17 && \
    install --directory --owner postgres --mode 3777 /run/postgresql && \
    install --directory --owner postgres --mode 1777 /var/lib/postgresql/data
ENV PATH=/usr/lib/postgresql/17/bin:$PATH PGDATA=/var/lib/postgresql/data
COPY postgres.sh /usr/local/bin/
VOLUME /var/lib/postgresql/data
STOPSIGNAL SIGINT
ENTRYPOINT ["postgres.sh"]

FROM python:3.13-slim-trixie AS temporal
RUN apt-get update && \
    DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends netcat-openbsd && \
    useradd --uid 1000 --create-home temporal
ENV HOME=/home/temporal USER=temporal
COPY --chmod=755 temporal server/temporal-server server/temporal-sql-tool /usr/local/bin/
COPY --chmod=755 entrypoint.sh /etc/temporal/
COPY server/schema /etc/temporal/schema
WORKDIR /etc/temporal
USER temporal

FROM python:3.13-slim-trixie AS page
USER nobody
CMD ["python3", "-m", "http.server", "8080", "--directory", "/usr/share"]

# Where `rockcraft` builds a rock's parts: its own instance is one of Ubuntu, with a snap of uv.
FROM python:3.13-slim-trixie AS parts
COPY --from=ghcr.io/astral-sh/uv:0.13.9 /uv /usr/local/bin/uv
RUN apt-get update && \
    DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends python3-apt && \
    python3 -m venv --system-site-packages /craft && \
    UV_SYSTEM_CERTS=true uv pip install --quiet --python /craft craft-parts==2.37.2
COPY rock_parts.py /
ENTRYPOINT ["/craft/bin/python", "/rock_parts.py"]
