# Images under the names of docker-compose.yml, where no registry can be reached: the same programs,
# or for Temporal's UI and Trino a server that answers at the same port.
FROM python:3.13-slim-trixie AS postgres
RUN apt-get update && \
    DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends postgresql-17 && \
    install --directory --owner postgres --mode 1777 /var/lib/postgresql/data
ENV PATH=/usr/lib/postgresql/17/bin:$PATH PGDATA=/var/lib/postgresql/data
COPY postgres.sh /usr/local/bin/
VOLUME /var/lib/postgresql/data
STOPSIGNAL SIGINT
ENTRYPOINT ["postgres.sh"]

FROM python:3.13-slim-trixie AS tools
RUN apt-get update && \
    DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends netcat-openbsd && \
    useradd --uid 1000 --create-home temporal
ENV USER=temporal HOME=/home/temporal

FROM tools AS admin-tools
COPY temporal temporal-sql-tool /usr/local/bin/
COPY schema /etc/temporal/schema
USER temporal

FROM tools AS server
COPY temporal-server /usr/local/bin/
COPY entrypoint.sh /etc/temporal/
WORKDIR /etc/temporal
USER temporal

FROM python:3.13-slim-trixie AS page
USER nobody
CMD ["python3", "-m", "http.server", "8080", "--directory", "/usr/share"]
