# Versions, names and places of what is around the test cluster. The scripts beside this one read it, nothing else does.
# shellcheck shell=bash disable=SC2034

# What runs in the cluster, and what makes it.
KUBERNETES=v1.34.4
KUBERNETES_LIBRARIES=v0.34.4 # the same release, as Kubernetes numbers its libraries
ETCD=v3.6.5
COREDNS=v1.12.1
KIND=v0.30.0
HELM=v3.21.4
GATEWAY_API=v1.4.1

# Where Kubernetes' own images come from. kubeadm asks for them by these names, so those made here without a registry
# bear them too; the tags are those that kubeadm of this release asks for.
REGISTRY=registry.k8s.io
KUBERNETES_IMAGES=(
  "$REGISTRY/kube-apiserver:$KUBERNETES"
  "$REGISTRY/kube-controller-manager:$KUBERNETES"
  "$REGISTRY/kube-scheduler:$KUBERNETES"
  "$REGISTRY/kube-proxy:$KUBERNETES"
  "$REGISTRY/etcd:${ETCD#v}-0"
  "$REGISTRY/coredns/coredns:$COREDNS"
  "$REGISTRY/pause:3.10"
)
NODE_IMAGE=weft-node:$KUBERNETES

# The cluster: `weft` for people, `weft-e2e` for the tests, so that neither gets into the other's way.
CLUSTER=${WEFT_CLUSTER:-weft}

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
here=$root/e2e/cluster
# What takes long to make is kept here, for all checkouts of this user.
cache=${WEFT_CACHE:-$HOME/.cache/weft-kind}
bin=$cache/bin
mkdir -p "$bin"
export PATH=$bin:$PATH

say() { printf '\e[2m%(%H:%M:%S)T\e[0m %s\n' -1 "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# locked COMMAND…: runs it while no other script of this user builds into the cache.
locked() { (
  exec 9>"$cache/lock"
  flock 9
  "$@"
); }

# registry_answers: whether images can be had from a registry. WEFT_OFFLINE=1 or 0 says so without asking; what was asked
# once is remembered there.
registry_answers() {
  if [ -z "${WEFT_OFFLINE:-}" ]; then
    # It names one image and fetches nothing. Where a registry cannot be reached its name is mostly not even found.
    if timeout 10 docker manifest inspect "${KUBERNETES_IMAGES[-1]}" >/dev/null 2>&1; then WEFT_OFFLINE=0; else WEFT_OFFLINE=1; fi
    export WEFT_OFFLINE
  fi
  [ "$WEFT_OFFLINE" = 0 ]
}
