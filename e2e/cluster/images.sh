#!/usr/bin/env bash
# Builds the images of Weft and of the shop into the Docker engine, tagged with the workspace's version.
#
#   images.sh BINARIES [NAME…]   All of them, or those named (weft-operator, weft-shop/user, …), with the binaries in a
#                                folder such as target/release, stripped.
#   images.sh --tests BINARIES   Those that the tests need as well.
#   images.sh --test-names       Prints the names of all, with the tag.
#
# Where a registry answers they stand on the image of this machine's system (SYSTEM names another one), since a binary
# needs the C library it was built with or a newer one. Where none does, on packages of this machine's Debian.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
. "$here/engine.sh"
. "$here/tools.sh"

NAMES=(weft-operator weft-proxy weft-shop/{user,product,order,ticket,chat,payment,notification,mailbox,postgres,redis})
# For the tests only. Their program is built with the workspace and not for a release.
TEST_NAMES=(weft-e2e/{app,tools})

# What is in the base of an image, by the Dockerfile's name.
packages() {
  case $1 in
    operator) echo ca-certificates ;;
    proxy) echo nftables ;;
    service | app) echo libgcc-s1 ;;
    postgres) echo postgresql ;;
    redis) echo redis-server ;;
    tools) echo bash ca-certificates curl iproute2 netcat-openbsd postgresql-client procps python3 redis-tools tcpdump ;;
  esac
}

main() {
  case ${1:-} in
    --test-names)
      printf "%s:$(workspace_version)\n" "${NAMES[@]}" "${TEST_NAMES[@]}"
      return
      ;;
    --tests)
      NAMES+=("${TEST_NAMES[@]}")
      shift
      ;;
  esac
  [ $# -gt 0 ] || { sed -n '4,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; }
  binaries=$1
  shift
  [ $# -gt 0 ] || set -- "${NAMES[@]}"
  engine_up
  registry_answers || say "no registry answers: images are made of this system's packages"
  version=$(workspace_version)
  local name
  for name in "$@"; do image "$name"; done
}

image() {
  local name=${1##*/} dockerfile folder=$root/images binary arguments=()
  case $1 in
    weft-operator | weft-proxy) dockerfile=${1#weft-} binary=$1 ;;
    weft-e2e/app) dockerfile=app binary=weft-e2e-app ;;
    weft-shop/postgres | weft-shop/redis | weft-e2e/tools) dockerfile=$name binary= ;;
    weft-shop/*) dockerfile=service binary=shop-$name ;;
    *) die "there is no image $1 (${NAMES[*]} ${TEST_NAMES[*]})" ;;
  esac
  say "building $1:$version"
  locked base "$dockerfile"
  if [ -n "$binary" ]; then
    folder=$root/dist/$name
    mkdir -p "$folder"
    strip -o "$folder/$(if [ "$dockerfile" = service ]; then echo service; else echo "$binary"; fi)" "$binaries/$binary"
  fi
  if [ "$dockerfile" = service ]; then arguments+=(--build-arg "NAME=$name"); fi
  if [[ $1 != weft-e2e/* ]]; then arguments+=(--build-arg "VERSION=$version"); fi
  build "$1:$version" --file "$root/images/Dockerfile.$dockerfile" --build-arg "BASE=weft-base/$dockerfile" \
    "${arguments[@]}" "$folder"
  # A binary that does not start here would not start on a node either.
  [ -z "$binary" ] || docker run --rm --network none "$1:$version" --help >/dev/null || die "$1:$version does not start"
}

# build TAG OPTION…: with the classic builder, which builds on what is in the engine; the other one may ask a registry for
# it. It says each time that it is old, so what it says is shown only when it fails.
build() {
  local tag=$1 old said
  shift
  old=$(docker image inspect --format '{{.Id}}' "$tag" 2>/dev/null) || old=
  said=$(DOCKER_BUILDKIT=0 docker build --tag "$tag" "$@" 2>&1) || { echo "$said" >&2; die "$tag could not be built"; }
  # What it was before is of no use any more, unless it is the same.
  [ -z "$old" ] || [ "$old" = "$(docker image inspect --format '{{.Id}}' "$tag")" ] || docker image rm "$old" >/dev/null 2>&1 || true
}

# base DOCKERFILE: makes weft-base/DOCKERFILE unless it is there.
base() {
  local list
  list=$(packages "$1")
  if registry_answers; then
    build "weft-base/$1" --file "$root/images/Dockerfile.base" --build-arg "SYSTEM=${SYSTEM:-$(system)}" \
      --build-arg "PACKAGES=$list" "$root/images"
    return
  fi
  local recipe
  recipe=$( (echo "$list"; declare -f base packages_only) | sha256sum | cut -c 1-16)
  [ "$(docker image inspect --format '{{index .Config.Labels "weft.dev/recipe"}}' "weft-base/$1" 2>/dev/null)" != "$recipe" ] || return 0
  command -v mmdebstrap >/dev/null || die "no registry answers, and making an image needs mmdebstrap: run 'make setup'"
  (
    work=$(mktemp -d "$cache/build.XXXXXX")
    trap 'rm -rf --one-file-system "$work"' EXIT
    files=$work/base
    packages_only "$files" "libc6 libgcc-s1 $(case $1 in postgres | redis | tools) echo dash coreutils grep sed libc-bin ;; esac) $list"
    tar -C "$files" -c . | docker import -c 'ENV PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
      -c "LABEL weft.dev/recipe=$recipe" - "weft-base/$1" >/dev/null
  )
}

# packages_only DIR "PACKAGES": the files of packages and of what they need, their scripts not run: no package manager,
# and where no package asks for it no shell. What scripts would have done and is needed is done here.
packages_only() {
  local files=$1
  # shellcheck disable=SC2086
  mmdebstrap --quiet --variant=extract --include="$(echo $2 | tr ' ' ,)" "$(. /etc/os-release && echo "$VERSION_CODENAME")" \
    "$files" 2>"$work/mmdebstrap.log" || { tail -n 20 "$work/mmdebstrap.log" >&2; die "the packages $2 could not be put together"; }
  mkdir -p "$files"/{data,etc,proc,run,sys,usr/local/bin}
  chmod 1777 "$files/data"
  printf '%s\n' 'root:x:0:0::/root:/usr/sbin/nologin' 'weft:x:65532:65532::/nonexistent:/usr/sbin/nologin' >"$files/etc/passwd"
  printf '%s\n' 'root:x:0:' 'weft:x:65532:' >"$files/etc/group"
  echo 'hosts: files dns' >"$files/etc/nsswitch.conf"
  if [ -d "$files/usr/share/ca-certificates" ]; then
    mkdir -p "$files/etc/ssl/certs"
    cat "$files"/usr/share/ca-certificates/mozilla/*.crt >"$files/etc/ssl/certs/ca-certificates.crt"
  fi
  [ ! -e "$files/bin/nc.openbsd" ] || ln -sf nc.openbsd "$files/bin/nc"
  # Perl is for scripts of packages, LLVM for compiled queries.
  rm -rf "$files"/usr/share/{doc,man,locale,i18n,perl,perl5,info,lintian,bash-completion} "$files"/usr/{bin,lib/*-linux-gnu}/perl* \
    "$files"/usr/lib/*-linux-gnu/libLLVM* "$files"/usr/lib/postgresql/*/lib/bitcode "$files"/var/{cache,lib}/{apt,dpkg}
}

# The image of this machine's system, if it has one with apt.
system() {
  . /etc/os-release
  case ${ID:-} in
    debian) echo "debian:$VERSION_CODENAME-slim" ;;
    ubuntu) echo "ubuntu:$VERSION_ID" ;;
    *) echo debian:bookworm-slim ;;
  esac
}

workspace_version() { sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' "$root/Cargo.toml"; }

main "$@"
