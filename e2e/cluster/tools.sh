# Programs that are built from Go modules: kind, kubectl and helm for all, Kubernetes itself where no registry answers.
# shellcheck shell=bash

# tools_ready: kind, kubectl and helm are on PATH, in the versions of settings.sh. Where a registry answers, installed
# ones of whatever version are good enough.
tools_ready() {
  local name
  for name in kind kubectl helm; do
    if go_built_from "$name" || { registry_answers && command -v "$name" >/dev/null; }; then continue; fi
    locked go_binary "$name"
  done
}

# go_binary NAME…: builds programs of one module into the cache unless they are there. Each appears whole or not at all.
go_binary() {
  local name names=() module version path packages=() out
  for name in "$@"; do go_built_from "$name" || names+=("$name"); done
  [ ${#names[@]} -gt 0 ] || return 0
  command -v go >/dev/null || die "${names[*]} must be built, which needs Go 1.21 or newer: run 'make setup', or install them"
  for name in "${names[@]}"; do
    read -r module version path <<<"$(go_source "$name")"
    packages+=("$module$path")
  done
  out=$(mktemp -d "$cache/build.XXXXXX")
  say "building ${names[*]} $version"
  (
    trap 'rm -rf "$out"' EXIT
    mkdir "$out/bin"
    go_module "$out/module" "$module" "$version"
    cd "$out/module"
    CGO_ENABLED=0 GOFLAGS='' go build -mod=mod -trimpath -ldflags "$(go_linker_flags)" -o "$out/bin/" "${packages[@]}"
    # What is called `v3` after its module is etcd.
    [ ! -e "$out/bin/v3" ] || mv "$out/bin/v3" "$out/bin/etcd"
    [ ! -e "$out/bin/server" ] || mv "$out/bin/server" "$out/bin/etcd"
    mv "$out/bin/"* "$bin/"
  )
}

# go_program NAME FILE: builds a program whose source is beside this script.
go_program() {
  command -v go >/dev/null || die "$1 has to be built, which needs Go 1.21 or newer: run 'make setup'"
  CGO_ENABLED=0 GOFLAGS='' go build -trimpath -ldflags '-s -w' -o "$2.new" "$here/$1/main.go"
  mv "$2.new" "$2"
}

# go_built_from NAME: whether the cache has the program, built from the version of settings.sh. Go writes the modules
# into what it builds.
go_built_from() {
  local module version
  read -r module version _ <<<"$(go_source "$1")"
  go version -m "$bin/$1" 2>/dev/null | awk -v module="$module" -v version="$version" \
    '($1 == "mod" || $1 == "dep") && $2 == module && $3 == version { found = 1 } END { exit !found }'
}

# MODULE VERSION PATH-IN-MODULE of a program.
go_source() {
  case $1 in
    kind) echo "sigs.k8s.io/kind $KIND" ;;
    helm) echo "helm.sh/helm/v3 $HELM /cmd/helm" ;;
    etcd) echo "go.etcd.io/etcd/server/v3 $ETCD" ;;
    coredns) echo "github.com/coredns/coredns $COREDNS" ;;
    kube* | kubectl) echo "k8s.io/kubernetes $KUBERNETES /cmd/$1" ;;
    *) die "no source is known of $1" ;;
  esac
}

go_linker_flags() {
  local version=k8s.io/component-base/version minor
  minor=${KUBERNETES#v*.}
  echo "-s -w -X $version.gitVersion=$KUBERNETES -X $version.gitMajor=1 -X $version.gitMinor=${minor%%.*}"
}

# go_module DIR MODULE VERSION: a throwaway module that requires one other. Kubernetes cannot be fetched by `go install`:
# it takes its own libraries from its tree, so their released versions have to be put in their place.
go_module() {
  mkdir -p "$1"
  (
    cd "$1"
    go mod init weft.test/build 2>/dev/null
    if [ "$2" = k8s.io/kubernetes ]; then
      local library
      for library in $(sed -n 's/^\t\(k8s\.io\/[a-z-]*\) => \.\/staging.*/\1/p' "$(module_file GoMod "$2@$3")"); do
        go mod edit -replace "$library=$library@$KUBERNETES_LIBRARIES"
      done
    fi
    go mod edit -require "$2@$3"
  )
}

# module_file Dir|GoMod MODULE@VERSION: where Go keeps a module, or its go.mod.
module_file() { go mod download -json "$2" | sed -n "s/^\t\"$1\": \"\(.*\)\".*/\1/p"; }
