#!/bin/sh
# Make .venv-peers: it sees the packages of .venv, at the same versions, and holds the peers besides.
# `make bench-peers` calls this first; a second call returns at once.
set -eu
cd "$(dirname "$0")/.."

python="${PY:-.venv/bin/python}"
list=benchmarks/requirements-peers.txt
wanted="$(cksum requirements.lock "$list" benchmarks/setup_peers.sh; pwd)"
if [ "$(cat .venv-peers/.ready 2>/dev/null)" = "$wanted" ]; then exit 0; fi

echo "peers: making .venv-peers"
"$python" -m venv --clear .venv-peers
ours="$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
theirs="$(.venv-peers/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
printf '%s\n' "$ours" >"$theirs/book.pth"
# The lock's versions without its hashes, so that no peer pulls in another TensorFlow or NumPy.
sed -n '/==/s/ *\\$//p' requirements.lock >.venv-peers/constraints.txt

complete=yes
for peer in $(grep -v '^#' "$list"); do
    echo "peers: installing $peer"
    .venv-peers/bin/python -m pip install --disable-pip-version-check --quiet \
        --constraint .venv-peers/constraints.txt "$peer" || {
        echo "peers: $peer could not be installed (see above); what needs it will be missing" >&2
        complete=no
    }
done
# Incomplete is not ready: the next call tries again.
if [ "$complete" = yes ]; then printf '%s\n' "$wanted" >.venv-peers/.ready; fi
