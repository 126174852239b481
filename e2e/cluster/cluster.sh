#!/usr/bin/env bash
# A kind cluster, on any machine with Docker, or as root on a Debian without it, with or without a registry.
#
#   cluster.sh up             Makes the cluster unless it is there: nodes ready, Gateway API installed. KUBECONFIG, or else
#                             ~/.kube/config, gets the context kind-NAME.
#   cluster.sh load IMAGE…    Puts images of the engine onto the nodes.
#   cluster.sh logs DIR       Writes what the nodes, the pods and the API server have to say into DIR.
#   cluster.sh down           Deletes the cluster, and stops the Docker engine if `up` started it and nothing else uses it.
#
# WEFT_CLUSTER names it (weft), WEFT_CACHE says where builds are kept (~/.cache/weft-kind), WEFT_OFFLINE=1 or 0 whether
# a registry is there (asked when not set).
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
. "$here/engine.sh"
. "$here/tools.sh"
. "$here/node.sh"

up() {
  engine_up
  tools_ready
  if exists && answers; then
    say "the cluster $CLUSTER is there already"
  else
    ! exists || { say "the cluster $CLUSTER does not answer and is made anew"; kind delete cluster --name "$CLUSTER"; }
    create
  fi
  kubectl wait --for=condition=Ready nodes --all --timeout=180s >/dev/null
  kubectl --namespace kube-system rollout status deployment/coredns --timeout=180s >/dev/null
  gateway_api
  say "the cluster $CLUSTER is ready"
}

exists() { kind get clusters 2>/dev/null | grep -qx "$CLUSTER"; }
answers() { kind export kubeconfig --name "$CLUSTER" 2>/dev/null && kubectl --request-timeout=10s get --raw /readyz >/dev/null 2>&1; }

create() {
  local image=()
  registry_answers || { node_image; image=(--image "$NODE_IMAGE"); }
  say "creating the cluster $CLUSTER"
  # The nodes of a failed start are kept for their logs.
  kind create cluster --quiet --retain --name "$CLUSTER" --config "$root/kind-config.yaml" "${image[@]}" || {
    local log
    log=$(mktemp -d)
    kind export logs --name "$CLUSTER" "$log" >/dev/null 2>&1 || true
    kind delete cluster --quiet --name "$CLUSTER"
    die "the cluster could not be created; the logs of its nodes are in $log"
  }
}

# The definitions of the standard channel, as `kubectl apply` of the release file gives them, and of TLSRoute, which joins it
# in a later release.
gateway_api() {
  local crd
  crd=$(module_file Dir "sigs.k8s.io/gateway-api@$GATEWAY_API")/config/crd
  kubectl apply --server-side --filename "$crd/standard" \
    --filename "$crd/experimental/gateway.networking.k8s.io_tlsroutes.yaml" >/dev/null
  kubectl wait --for=condition=Established --timeout=60s \
    crd/{gatewayclasses,gateways,httproutes,grpcroutes,tlsroutes,referencegrants}.gateway.networking.k8s.io >/dev/null
}

load() {
  engine_up
  say "loading $# images"
  kind load docker-image --quiet --name "$CLUSTER" "$@"
}

logs() {
  local dir=$1 kinds
  mkdir -p "$dir"
  kind export logs --name "$CLUSTER" "$dir" >/dev/null 2>&1 || true
  kubectl get events --all-namespaces --sort-by=.lastTimestamp >"$dir/events.txt" 2>&1 || true
  kubectl get pods --all-namespaces --output wide >"$dir/pods.txt" 2>&1 || true
  kubectl describe pods --all-namespaces >"$dir/pods-described.txt" 2>&1 || true
  for kinds in weft gateways,httproutes,grpcroutes services,endpointslices deployments,statefulsets,jobs leases; do
    kubectl get "$kinds" --all-namespaces --output yaml >"$dir/${kinds%%,*}.yaml" 2>&1 || true
  done
  say "logs are in $dir"
}

down() {
  engine_is_ours && engine_speaks_old
  if docker info >/dev/null 2>&1 && exists; then
    say "deleting the cluster $CLUSTER"
    kind delete cluster --quiet --name "$CLUSTER"
  fi
  engine_down
}

case ${1:-} in
  up | down) "$1" ;;
  load | logs) [ $# -gt 1 ] || die "cluster.sh $1: say what"; "$@" ;;
  *) sed -n '4,10s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
esac
