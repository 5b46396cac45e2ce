# The longhaul binary without the embedded Temporal, alone in its image.
#
# MCP servers that are started as commands need their runtime beside it:
#
#   docker build --build-arg BASE=node:24-alpine .
ARG BASE=scratch

FROM --platform=$BUILDPLATFORM golang:1.26.8-alpine AS build
ARG TARGETOS
ARG TARGETARCH
ARG VERSION=dev
WORKDIR /src
COPY . .
# No "go mod download" first: it would fetch the embedded Temporal too, which
# the noembed build does without.
RUN --mount=type=cache,target=/go/pkg/mod \
    --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -tags noembed -trimpath -ldflags "-s -w -X main.version=$VERSION" -o /out/longhaul ./cmd/longhaul
RUN mkdir /out/data

FROM ${BASE}
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/longhaul /usr/local/bin/longhaul
# A volume mounted here starts with this directory's owner.
COPY --from=build --chown=65532:65532 /out/data /var/lib/longhaul
USER 65532:65532
# Where commands like npx may keep their caches.
ENV HOME=/tmp
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=6s --start-period=60s --retries=3 \
    CMD ["/usr/local/bin/longhaul", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/longhaul"]
