# Sluice's container image: one static binary, no shell, no root, nothing that is written to.
#
#     docker run --read-only -v ./sluice.yaml:/etc/sluice/sluice.yaml:ro -p 5432:5432 -p 6543:6543 sluice
#     docker run --read-only -e DATABASE_URL -e SLUICE_SESSION_ADDRESS=:5432 -e SLUICE_TRANSACTION_ADDRESS=:6543 \
#       -p 5432:5432 -p 6543:6543 sluice serve
#
# What it runs stands in scripts, which .ci/run runs outside Docker as well.

FROM golang:1.26-bookworm AS modules
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download

FROM modules AS build
ARG VERSION=unknown
ENV VERSION=$VERSION ROOTFS=/rootfs
COPY . .
RUN deploy/rootfs.sh "$ROOTFS"

FROM scratch
COPY --from=build /rootfs/ /
USER 65532:65532
EXPOSE 5432 6543 9930
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["/sluice", "healthcheck"]
ENTRYPOINT ["/sluice"]
CMD ["serve", "--config", "/etc/sluice/sluice.yaml"]
