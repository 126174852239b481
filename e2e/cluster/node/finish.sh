#!/bin/bash
# Run as root inside the node's file system, in a process and a mount namespace that end with it: makes systemd start
# what a node needs and nothing else, and puts the images of the control plane (/images.tar) into containerd's store.
set -euo pipefail

mount -t proc proc /proc
# As kind's own node image does it.
find /lib/systemd/system/sysinit.target.wants/ -name systemd-tmpfiles-setup.service -delete
rm -f /lib/systemd/system/multi-user.target.wants/* /etc/systemd/system/*.wants/* /lib/systemd/system/local-fs.target.wants/* \
  /lib/systemd/system/sockets.target.wants/*udev* /lib/systemd/system/sockets.target.wants/*initctl* \
  /lib/systemd/system/basic.target.wants/*
echo ReadKMsg=no >>/etc/systemd/journald.conf
ln -sf /lib/systemd/systemd /sbin/init
systemctl --quiet enable kubelet.service containerd.service undo-mount-hacks.service
systemctl --quiet mask systemd-binfmt.service
ctr oci spec |
  jq '.hooks.createContainer += [{path: "/kind/bin/mount-product-files.sh"}] | del(.process.rlimits)' >/etc/containerd/cri-base.json

mkdir -p /run/containerd
containerd --log-level error >/tmp/containerd.log 2>&1 &
for _ in $(seq 100); do
  ! ctr version >/dev/null 2>&1 || break
  sleep 0.2
done
ctr --namespace k8s.io images import --all-platforms --no-unpack --digests /images.tar >/dev/null || { cat /tmp/containerd.log; exit 1; }
kill %1
wait %1 || true
rm -rf /images.tar /run/containerd /tmp/containerd.log
