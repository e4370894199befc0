# Installs Debian's PostgreSQL server without the cluster that its package makes and starts on a first installation.
# The setting goes into a file that exists once postgresql-common does; the file is put back as it was afterwards.
# Each line is one whole statement without single quotes: joined by semicolons they are the command that is shown to
# a user who has to run it by hand.
set -e
export DEBIAN_FRONTEND=noninteractive
apt-get update || echo "apt-get update: see above, going on with the package lists at hand" >&2
apt-get install -y --no-install-recommends postgresql-common
f=/etc/postgresql-common/createcluster.conf
test -e $f || : > $f
test -e $f.before || cp -p $f $f.before
trap "mv -f $f.before $f" EXIT
trap "exit 1" HUP INT TERM
printf "\ncreate_main_cluster = false\n" >> $f
apt-get install -y --no-install-recommends postgresql
