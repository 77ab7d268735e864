#!/usr/bin/env bash
# Builds the image without a Docker engine and tries it: as its own user, on a read-only root, it
# builds an index, answers over HTTP, is checked for its health, and stops when told to.
# `make image` runs this. Needs root on Debian, a package index, some ten minutes and 6 GB of disk.
set -euo pipefail
cd "$(dirname "$0")/.."
WORK="${1:-$(mktemp -d)}"
PORT=8080

command -v buildah debootstrap >/dev/null || {
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends buildah debootstrap
} >/dev/null

say() { printf '%6d s  %s\n' "$SECONDS" "$*"; }
build() { buildah --storage-driver vfs --root "$WORK/store" --runroot "$WORK/run" "$@"; }

if ! build inspect python-base >/dev/null 2>&1; then
  say "a base with Python, by debootstrap"
  debootstrap --variant=minbase --include=ca-certificates,python3,python3-venv \
    bookworm "$WORK/base" >"$WORK/debootstrap.log"
  # debootstrap leaves it mounted where something looked into it.
  umount --quiet --lazy "$WORK/base/proc" || true
  printf 'FROM scratch\nADD base /\n' >"$WORK/Containerfile"
  build bud --quiet --isolation chroot --tag python-base --file "$WORK/Containerfile" "$WORK" >/dev/null
  rm -rf --one-file-system "$WORK/base"
fi

say "the image"
# The build trusts whom this machine trusts, and installs from where it does.
trusts=(--volume /etc/ssl/certs:/etc/ssl/certs:ro)
[ -f /etc/pip.conf ] && trusts+=(--volume /etc/pip.conf:/etc/pip.conf:ro)
build bud --isolation chroot --format docker "${trusts[@]}" --build-arg PYTHON_IMAGE=localhost/python-base \
  --tag metaflowbot --file Dockerfile . >"$WORK/build.log" 2>&1 || { tail -40 "$WORK/build.log"; exit 1; }
say "built: $(build images --format '{{.Name}} {{.Size}}' | tr '\n' ' ')"

container=$(build from metaflowbot)
root=$(build mount "$container")
mapfile -t names < <(build inspect --format '{{range .OCIv1.Config.Env}}{{println .}}{{end}}' metaflowbot \
  | grep =)
mapfile -t check < <(build inspect --format '{{range .Docker.Config.Healthcheck.Test}}{{println .}}{{end}}' \
  metaflowbot | sed '/^CMD$/d;/^$/d')
[ "$(build inspect --format '{{.OCIv1.Config.User}}' metaflowbot)" = 10001:10001 ]
mkdir -p "$WORK/data"
chown 10001:10001 "$WORK/data"

# Runs a command with the image's names, as its user, on its root made read-only; /data and /tmp
# can be written.
inside() {
  unshare --mount bash -euc '
    root=$1 data=$2; shift 2
    mount --bind "$root" "$root" && mount -o remount,ro,bind "$root"
    mount --bind "$data" "$root/data" && mount -t tmpfs tmpfs "$root/tmp"
    mount -t proc proc "$root/proc" && mount --rbind /dev "$root/dev"
    exec setpriv --no-new-privs chroot --userspec=10001:10001 "$root" \
      /usr/bin/env --chdir=/data -i "$@"' inside "$root" "$WORK/data" \
    "${names[@]}" METAFLOWBOT_API_TOKEN=of-this-trial "$@"
}

say "runs as user $(inside id -u), root is read-only: $(inside sh -c 'touch /opt/x 2>&1 || true')"
tools=$(inside sh -c 'command -v gcc cc make pip pip3 || true')
[ -z "$tools" ] || { echo "tools to build with are left in the image: $tools"; exit 1; }

encodings=$(inside sh -c 'ls "$TIKTOKEN_CACHE_DIR" | wc -l')
[ "$encodings" -ge 2 ] || { echo "the token encodings are not in the image"; exit 1; }

say "ingest"
inside metaflowbot ingest >"$WORK/ingest.log" 2>&1 || { tail -20 "$WORK/ingest.log"; exit 1; }
say "$(tail -1 "$WORK/ingest.log")"

started=$SECONDS
inside sh -c 'echo $$ > /data/pid; exec metaflowbot serve --host 0.0.0.0' 2>"$WORK/serve.log" &
serving=$!
trap 'kill "$(cat "$WORK/data/pid")" 2>/dev/null || true' EXIT
url=http://127.0.0.1:$PORT
until curl -sf $url/readyz >/dev/null; do
  kill -0 $serving 2>/dev/null || { cat "$WORK/serve.log"; exit 1; }
  [ $((SECONDS - started)) -lt 300 ] || { echo "not ready in 300 s"; cat "$WORK/serve.log"; exit 1; }
  sleep 0.2
done
say "ready, $((SECONDS - started)) s after its start; /metrics without the token: \
$(curl -s -o /dev/null -w '%{http_code}' $url/metrics)"
curl -sf $url/api/ask -H 'Authorization: Bearer of-this-trial' -H 'Content-Type: application/json' \
  -d '{"question": "How do I retry a failing step?"}' >"$WORK/answer.json"
say "answered: $(python3 -c '
import json, sys
a = json.load(open(sys.argv[1]))
assert a["citations"] and not a["abstained"], a
print(len(a["citations"]), "citations in", a["timings_ms"]["total"], "ms:", a["citations"][0]["document_id"])
' "$WORK/answer.json")"
inside "${check[@]}" && say "its health check passes"
say "logs: $(grep '"event": "question"' "$WORK/serve.log")"
pid=$(cat "$WORK/data/pid")
say "memory: $(awk '/VmRSS/ {print int($2 / 1024)}' "/proc/$pid/status") MB"
kill -TERM "$pid"
wait $serving || { echo "it did not stop cleanly"; exit 1; }
say "stopped when told to; logs are under $WORK"
