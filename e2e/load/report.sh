#!/usr/bin/env bash
# Measures the shop on this machine and writes the figures into README.md beside this script: starts a shop of its own
# with `weft run`, puts it under load by each way and strategy, looks at its books each time. About five minutes.
#
#   report.sh BINARIES [--print]   BINARIES is a folder such as target/release; --print shows the page and writes nothing.
#
# SECONDS_EACH sets how long each load lasts (10), RATE the requests per second of the rush (500), CLIENTS those of the
# chat (1000).
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[ $# -ge 1 ] || { sed -n '2,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; }
bin=$(cd "$1" && pwd)
seconds=${SECONDS_EACH:-10} rate=${RATE:-500} clients=${CLIENTS:-1000}
work=$(mktemp -d "${TMPDIR:-/tmp}/weft-load.XXXXXX")
chmod 755 "$work" # PostgreSQL runs as another user where this runs as root
run=
end() {
  if [ -n "$run" ]; then kill "$run" 2>/dev/null && wait "$run" || true; fi
  rm -rf "$work"
}
trap end EXIT

# The shop as it is, but for what would be measured instead of it: limits per customer, and a line in a log per request.
cp -r "$here/../../examples/shop" "$work/shop"
rm -rf "$work/shop/.weft"
for file in "$work"/shop/*.yaml; do
  awk '/^  rateLimits:/ { skip = 1; next } skip && /^(  [a-zA-Z]|[^ ])/ { skip = 0 } !skip' "$file" >"$work/file"
  sed 's/^  accessLog: All/  accessLog: Errors/' "$work/file" >"$file"
done
LOG=warn "$bin/weft" run --state "$work/state" "$work/shop" >"$work/log" 2>&1 &
run=$!
for _ in $(seq 480); do
  [ ! -e "$work/state/ready.json" ] || break
  kill -0 "$run" 2>/dev/null || { cat "$work/log" >&2; exit 1; }
  sleep 0.25
done
[ -e "$work/state/ready.json" ] || { cat "$work/log" >&2; echo "the shop is not ready" >&2; exit 1; }

number=100
failed=0
# load GROUP ARGUMENT…: one load; its report goes to GROUP-NUMBER.json. One that fails leaves the others their figures.
load() {
  local group=$1
  shift
  number=$((number + 1))
  "$bin/load" --state "$work/state" --json "$work/$group-$number.json" "$@" || failed=1
}

# First, since the sales leave behind what goes on for minutes: reservations that expire, and the messages about them.
for way in direct mesh; do
  load chat --way $way chat --clients "$clients" --rooms 20 --rate 100 --seconds "$seconds"
  load shop --way $way shop --rate 200 --seconds "$seconds"
done

sale=(--seconds "$seconds" --buyers 5000 --events 4 --capacity 1000000 --limit 100)
for strategy in redis postgres; do
  for way in direct mesh; do
    # At most: customers who ask again at once. Then by a timetable: what those who come by chance wait.
    load sale-reserve --way $way sale --step reserve --strategy $strategy --workers 64 "${sale[@]}"
    load sale-buy --way $way sale --step buy --strategy $strategy --workers 64 "${sale[@]}"
    load sale-rush --way $way sale --step buy --strategy $strategy --rate "$rate" --seconds "$seconds" --capacity 500
  done
done

if [ "${2:-}" = --print ]; then
  "$bin/load" page "$work"/*-[0-9]*.json
else
  "$bin/load" page --write "$here/README.md" "$work"/*-[0-9]*.json
fi
[ "$failed" = 0 ] || { echo "a load failed, or the books do not balance: see above" >&2; exit 1; }
