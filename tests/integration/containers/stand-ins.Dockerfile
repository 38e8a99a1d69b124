# Images under the names of docker-compose.yml, where no registry can be reached. PostgreSQL is real;
# Temporal is the development server behind the production server's script and tools; its pages and
# Trino are a server that answers at their port.
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
COPY --chmod=755 temporal temporal-sql-tool /usr/local/bin/
COPY --chmod=755 entrypoint.sh /etc/temporal/
USER temporal

FROM python:3.13-slim-trixie AS page
USER nobody
CMD ["python3", "-m", "http.server", "8080", "--directory", "/usr/share"]
