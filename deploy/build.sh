#!/bin/sh
# Builds the static binary of Sluice into the file given as argument. VERSION is what "sluice version" will say.
set -eu
cd "$(dirname "$0")/.."
CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=${VERSION:-unknown}" -o "$1" ./cmd/sluice
