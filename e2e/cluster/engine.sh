# A Docker engine: the one that answers, else Debian's, started by hand and stopped again by `engine_down`.
# shellcheck shell=bash

engine=$cache/docker

engine_up() {
  ! engine_is_ours || engine_speaks_old
  ! docker info >/dev/null 2>&1 || return 0
  command -v dockerd >/dev/null && command -v docker >/dev/null || die "there is no Docker here: run 'make setup', or install Docker"
  [ ! -d /run/systemd/system ] || die "Docker does not answer: start it ('sudo systemctl start docker'), and let this user use it"
  [ "$(id -u)" -eq 0 ] || die "Docker does not answer, and only root can start it here"
  (
    exec 8>"$cache/engine.lock"
    flock 8
    # Another script may have started it meanwhile.
    docker info >/dev/null 2>&1 || engine_start
  )
  engine_speaks_old
  docker info >/dev/null
}

# Stops the engine if it was started here and nobody uses it any more.
engine_down() {
  engine_is_ours || return 0
  engine_speaks_old
  if [ -n "$(docker ps --quiet)" ]; then
    say "the Docker engine stays: containers run in it"
    return 0
  fi
  local pid
  pid=$(cat "$engine/pid")
  say "stopping the Docker engine"
  kill "$pid"
  # dockerd takes containerd down with it.
  for _ in $(seq 100); do
    [ -e "/proc/$pid" ] || break
    sleep 0.2
  done
  [ ! -e "/proc/$pid" ] || die "the Docker engine (pid $pid) does not end; see $engine/dockerd.log"
  umount "$engine/data" 2>/dev/null || true # dockerd binds its folder to itself and may leave that behind
}

engine_is_ours() {
  local pid
  pid=$(cat "$engine/pid" 2>/dev/null) || return 1
  [ "$(basename "$(readlink "/proc/$pid/exe" 2>/dev/null)")" = dockerd ]
}

# Clients newer than Debian's engine have to be told what it speaks.
engine_speaks_old() { export DOCKER_API_VERSION=${DOCKER_API_VERSION:-1.41}; }

engine_start() {
  say "starting a Docker engine"
  mkdir -p "$engine"
  rm -f "$engine/pid"
  local runtime=()
  if ! has_cap_sys_resource; then
    go_program runc-unprivileged "$engine/runc-unprivileged"
    runtime=(--add-runtime "unprivileged=$engine/runc-unprivileged" --default-runtime unprivileged)
  fi
  engine_speaks_old
  # The lock's descriptor is closed: it would be held for as long as the engine lives.
  setsid nohup dockerd "${runtime[@]}" --data-root "$engine/data" --exec-root "$engine/exec" --pidfile "$engine/pid" \
    >"$engine/dockerd.log" 2>&1 </dev/null 8>&- 9>&- &
  local pid=$!
  for _ in $(seq 120); do
    ! docker info >/dev/null 2>&1 || return 0
    [ -e "/proc/$pid" ] || break
    sleep 0.5
  done
  tail -n 20 "$engine/dockerd.log" >&2
  die "the Docker engine did not start; the end of $engine/dockerd.log is above"
}

# Where root lacks this capability (bit 24), as in some sandboxes, runc has to be kept from asking for it.
has_cap_sys_resource() { (((0x$(sed -n 's/^CapBnd:\s*//p' /proc/self/status) >> 24) & 1)); }
