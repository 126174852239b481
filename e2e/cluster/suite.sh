#!/usr/bin/env bash
# The tests of e2e/kind on a cluster of their own, with the images of this checkout: what `make e2e` runs.
#
#   suite.sh BINARIES    The folder with the binaries that go into the images, such as target/debug.
#
# When a test fails, what the cluster says is in target/e2e-logs. KEEP=1 leaves the cluster; the next run uses it again.
# TESTS holds further arguments for the test program, such as the name of a test.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/settings.sh"

binaries=$(cd "$1" && pwd)
export WEFT=$binaries/weft
export WEFT_CLUSTER=weft-e2e KUBECONFIG=$root/dist/kubeconfig
mkdir -p "$root/dist"

finish() {
  local status=$?
  trap '' INT TERM
  [ "$status" -eq 0 ] || "$here/cluster.sh" logs "$root/target/e2e-logs" || true
  if [ -n "${KEEP:-}" ]; then
    say "the cluster stays: export KUBECONFIG=$KUBECONFIG PATH=$bin:\$PATH; 'WEFT_CLUSTER=$WEFT_CLUSTER make cluster-down' deletes it"
  else
    "$here/cluster.sh" down
  fi
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

"$here/cluster.sh" up
"$here/images.sh" --tests "$binaries"
mapfile -t images < <("$here/images.sh" --test-names)
"$here/cluster.sh" load "${images[@]}"
say "running the tests"
# With the whole workspace, dependencies have the features that `make test` built them with, and are not built again.
# shellcheck disable=SC2086
"${CARGO:-cargo}" test --manifest-path "$root/Cargo.toml" --workspace --features weft-e2e-kind/cluster --test kind -- ${TESTS:-}
