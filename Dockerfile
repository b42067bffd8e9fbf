# The correlator: one image, every component a command of it.
FROM python:3.11-slim-bookworm AS build
WORKDIR /src
COPY requirements/runtime.txt requirements/build.txt requirements/
RUN python -m venv /opt/correlator \
 && /opt/correlator/bin/pip install --no-cache-dir --require-hashes -r requirements/runtime.txt -r requirements/build.txt
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY correlator correlator
COPY schemas schemas
COPY scenarios scenarios
COPY deploy deploy
RUN /opt/correlator/bin/pip install --no-cache-dir --no-deps --no-build-isolation . \
 && /opt/correlator/bin/pip uninstall --yes hatchling

FROM python:3.11-slim-bookworm
RUN useradd --system --uid 10001 --home-dir /var/lib/correlator --create-home correlator \
 && install --directory --owner correlator --mode 700 /var/lib/correlator-keys /var/lib/correlator-vault
COPY --from=build /opt/correlator /opt/correlator
ENV PATH=/opt/correlator/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER correlator
WORKDIR /etc/correlator
VOLUME /var/lib/correlator
ENTRYPOINT ["correlator"]
CMD ["--help"]
