# The node image where no registry answers: Kubernetes from Go modules, Debian from packages, kind's own node files from
# its Go module. About eight minutes the first time; then it is in the engine.
# shellcheck shell=bash

# The node: what kind's own image has, as Debian calls it. The network: kube-proxy, and the pod network of node/.
NODE_PACKAGES=systemd,systemd-sysv,dbus,conntrack,iptables,nftables,iproute2,ethtool,util-linux,mount,kmod,libseccomp2,bash
NODE_PACKAGES+=,ca-certificates,curl,jq,procps,containerd,runc,containernetworking-plugins,socat
NETWORK_PACKAGES=iptables,nftables,conntrack,kmod,iproute2,curl,jq,ca-certificates
DEBIAN=bookworm

node_image() { locked node_image_made; }

node_image_made() {
  # Builds that were interrupted. Nobody else builds: this holds the lock.
  rm -rf --one-file-system "$cache"/build.*
  local recipe old
  recipe=$(node_recipe)
  [ "$(docker image inspect --format '{{index .Config.Labels "weft.dev/recipe"}}' "$NODE_IMAGE" 2>/dev/null)" != "$recipe" ] || return 0
  [ "$(id -u)" -eq 0 ] || die "no registry answers, and only root can make a node image"
  command -v mmdebstrap >/dev/null || die "no registry answers, and making a node image needs mmdebstrap: run 'make setup'"
  go_binary kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubelet kubeadm kubectl
  go_binary etcd
  go_binary coredns
  say "making the node image $NODE_IMAGE"
  old=$(docker image inspect --format '{{.Id}}' "$NODE_IMAGE" 2>/dev/null) || old=
  (
    work=$(mktemp -d "$cache/build.XXXXXX")
    trap 'rm -rf --one-file-system "$work"' EXIT
    go_program pause "$work/pause"
    go_program runc-unprivileged "$work/runc-unprivileged"
    control_plane_images
    node_files
    unshare --mount --pid --fork --kill-child chroot "$work/node" /finish.sh
    rm "$work/node/finish.sh"
    tar -C "$work/node" --one-file-system -c . | docker import \
      -c 'ENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]' -c 'ENV container=docker' \
      -c "LABEL weft.dev/recipe=$recipe" - "$NODE_IMAGE" >/dev/null
  )
  [ -z "$old" ] || docker image rm "$old" >/dev/null 2>&1 || true # stays while a cluster uses it
}

# What the image is made of, in short.
node_recipe() {
  (
    cd "$here"
    printf '%s ' "$KUBERNETES" "$ETCD" "$COREDNS" "$KIND"
    cat node.sh node/* pause/main.go runc-unprivileged/main.go
  ) | sha256sum | cut -c 1-16
}

debian() { # DIR PACKAGES
  mmdebstrap --quiet --variant=minbase --include="$2" "$DEBIAN" "$1" 2>"$work/mmdebstrap.log" ||
    { tail -n 20 "$work/mmdebstrap.log" >&2; die "Debian could not be put together in $1"; }
}

# Leaves them in $work/images.tar, and not in the engine, where they would be taken for the real ones.
control_plane_images() {
  local image
  for image in "${KUBERNETES_IMAGES[@]}"; do
    control_plane_image "$image"
  done
  docker save --output "$work/images.tar" "${KUBERNETES_IMAGES[@]}"
  docker image rm "${KUBERNETES_IMAGES[@]}" >/dev/null
}

control_plane_image() {
  local image=$1 files=$work/image name changes=(-c 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin')
  name=${image##*/}
  name=${name%:*}
  case $name in
    kube-proxy) debian "$files" "$NETWORK_PACKAGES" ;; # its DaemonSet names the command
    *)
      mkdir -p "$files"/{etc,tmp}
      echo 'root:x:0:0::/root:/bin/false' >"$files/etc/passwd"
      changes+=(-c "ENTRYPOINT [\"/usr/local/bin/$name\"]")
      ;;
  esac
  mkdir -p "$files/usr/local/bin"
  cp "$(if [ "$name" = pause ]; then echo "$work"; else echo "$bin"; fi)/$name" "$files/usr/local/bin/"
  tar -C "$files" -c . | docker import "${changes[@]}" - "$image" >/dev/null
  rm -rf --one-file-system "$files"
}

# Debian, kind's node files, Kubernetes, and the pod network.
node_files() {
  local files=$work/node name
  debian "$files" "$NODE_PACKAGES"
  cp -r --no-preserve=mode "$(module_file Dir "sigs.k8s.io/kind@$KIND")/images/base/files/." "$files/"
  chmod 755 "$files"/usr/local/bin/* "$files/kind/bin" "$files"/kind/bin/*
  for name in kubeadm kubelet kubectl; do install -m 755 "$bin/$name" "$files/usr/bin/$name"; done
  # kind's files look for these where kind installs them.
  for name in containerd ctr containerd-shim-runc-v2; do ln -sf "/usr/bin/$name" "$files/usr/local/bin/$name"; done
  # Before Debian's on PATH. What it takes away, a node that may have it does not miss.
  install -m 755 "$work/runc-unprivileged" "$files/usr/local/sbin/runc"
  sed -i -e '/^Limit/d' -e '/OOMScoreAdjust/d' "$files/etc/systemd/system/containerd.service"
  sed -i 's/restrict_oom_score_adj = false/restrict_oom_score_adj = true/' "$files/etc/containerd/config.toml"
  printf %s "$KUBERNETES" >"$files/kind/version"
  mkdir -p "$files"/opt/cni/bin "$files"/etc/cni/net.d "$files"/kind/manifests "$files"/etc/kubernetes/manifests "$files"/lib/modules
  cp "$files"/usr/lib/cni/{host-local,loopback,ptp,portmap} "$files/opt/cni/bin/"
  sed "s|@KUBE_PROXY@|$REGISTRY/kube-proxy:$KUBERNETES|" "$here/node/default-cni.yaml" >"$files/kind/manifests/default-cni.yaml"
  cp "$here/node/default-storage.yaml" "$files/kind/manifests/"
  install -m 755 "$here/node/finish.sh" "$files/finish.sh"
  mv "$work/images.tar" "$files/images.tar"
}
