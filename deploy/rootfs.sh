#!/bin/sh
# Makes the file system of the container image in the folder given as argument: the binary, the certificates that
# Postgres's own is verified with, and a name for the user it runs as.
set -eu
cd "$(dirname "$0")/.."
root=$1
mkdir -p "$root/etc/ssl/certs" "$root/etc/sluice"
deploy/build.sh "$root/sluice"
cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
printf 'sluice:x:65532:65532:Sluice:/:/sbin/nologin\n' > "$root/etc/passwd"
printf 'sluice:x:65532:\n' > "$root/etc/group"
chmod -R a+rX "$root"
