# shellcheck shell=sh disable=SC2329
# One machine of the matrix: process 1 of namespaces of its own, given what the machine lacks, then the command.
#     machine.sh TAKES OWN CACHE PYTHON COMMAND...
# TAKES are lines for this shell. OWN is a folder for what the run leaves, CACHE that of the images. The status 77 says
# that the machine below can't take it. Everything is mounted in the namespaces, and gone with them.
set -eu
takes=$1 own=$2 cache=$3 python=$4
shift 4

mount --bind "$own" /mnt
mkdir /mnt/over
mount -t tmpfs -o mode=755 tmpfs /mnt/over
mount -t tmpfs -o mode=755 tmpfs /run
mount --bind "$cache" "$cache"

# How the command is run; some rows have another way.
start() {
  "$@"
}

# -- what rows use ------------------------------------------------------------------------------------------------------

# Lets changes of these folders be thrown away.
over() {
  for folder; do
    [ "$folder" != / ] # this process would stay in the root below
    layers=/mnt/over/$(echo "$folder" | tr / -)
    mkdir "$layers" "$layers/upper" "$layers/work"
    mount -t overlay -o "lowerdir=$folder,upperdir=$layers/upper,workdir=$layers/work" overlay "$folder"
  done
}

# Removes programs from the folders that lie under `over`.
remove() {
  for program; do
    for folder in /usr/sbin /usr/bin /usr/libexec /usr/libexec/podman /usr/lib/podman; do
      [ ! -f "$folder/$program" ] || [ "$(stat --file-system --format=%T "$folder")" = overlayfs ]
      [ -d "$folder/$program" ] || rm -f "$folder/$program"
    done
  done
}

folder() {
  mkdir -p "$1"
  chmod 0755 "$1"
}

deny() {
  kind=$1
  start() {
    "$python" tests/machines/deny.py "$kind" "$@"
  }
}

move_podman() {
  mv /usr/bin/podman /usr/local/bin
}

# crun as it is when it was built without libsystemd.
hamper_crun() {
  mv /usr/bin/crun /usr/bin/crun.real
  cat > /usr/bin/crun << 'END'
#!/bin/sh
case "$*" in
  *--version*) crun.real --version | sed 's/+SYSTEMD //' ;;
  *--systemd-cgroup*) echo 'systemd not supported' >&2; exit 1 ;;
  *) exec crun.real "$@" ;;
esac
END
  chmod 0755 /usr/bin/crun
}

# Leaves so few process numbers that Podman can't start; before Linux 6.14 the limit is the whole machine's.
use_pids_up() {
  printf '6.14\n%s\n' "$(uname -r)" | sort --version-sort --check=quiet || exit 77
  echo 400 > /proc/sys/kernel/pid_max
  for number in $(seq 380); do
    sleep 600 &
  done
  used=$!
}

# Without a capability of capabilities(7).
without() {
  capability=$1
  start() {
    setpriv "--bounding-set=-$capability" "--inh-caps=-$capability" "$@"
  }
}

offline() {
  start() {
    unshare --net sh -c 'ip link set lo up && exec "$@"' sh "$@"
  }
}

# The clock of timers is an hour ahead of that of the machine below.
another_clock() {
  start() {
    unshare --time --monotonic=3600 --boottime=3600 -- "$@"
  }
}

empty_environment() {
  start() {
    env -i HARNESS_CACHE="$cache" PYTEST_ADDOPTS="$PYTEST_ADDOPTS" "$@"
  }
}

# Without the options that keep files out of the checkout.
as_documented() {
  export PYTEST_ADDOPTS="${PYTEST_ADDOPTS% -p no:cacheprovider*}"
}

checkout_at() {
  folder "$1"
  mount --bind . "$1"
  cd "$1"
  export PYTHONPATH="$1"
}

# An empty cache on a file system of this size.
cache_on() {
  folder /mnt/over/cache
  mount -t tmpfs -o "mode=755,size=$1" tmpfs /mnt/over/cache
  export HARNESS_CACHE=/mnt/over/cache
}

fill() {
  cat /dev/zero > "$HARNESS_CACHE/full" 2>/dev/null || true
}

home_read_only() {
  mount -t tmpfs -o ro tmpfs /run
  export HOME=/run
  unset HARNESS_CACHE XDG_CACHE_HOME
}

other_records() {
  over "$cache/images"
  echo '{"name": "echo", "image": "localhost/echo", "digest": "sha256:0"}' > "$cache/images/echo-000000000000.json"
  echo '["a list"]' > "$cache/images/base-debian-000000000000.json"
  printf '\000\377' > "$cache/images/handover-000000000000.json"
  : > "$cache/images/echo.lock"
}

# Another version, from a checkout of its own, does the same with the same cache at the same time.
other_version() {
  folder /mnt/over/other
  cp -R harness suites containers conftest.py pyproject.toml /mnt/over/other
  sed -i 's/^__version__ = .*/__version__ = "99"/' /mnt/over/other/harness/__init__.py
  start() {
    (
      cd /mnt/over/other
      export PYTHONPATH=/mnt/over/other
      "$@" --junitxml=/mnt/other.xml --harness-artifacts-dir=/mnt/other > /mnt/other.txt 2>&1
    ) &
    "$@"
    wait $! || {
      cat /mnt/other.txt
      return 1
    }
    grep -q '"version": "99"' /mnt/other/results.json
  }
}

runtime_dir_of() {
  export XDG_RUNTIME_DIR="/run/user/$1"
  folder "$XDG_RUNTIME_DIR"
  chown "$1" "$XDG_RUNTIME_DIR"
}

left_over() {
  export LISTEN_FDS=3 LISTEN_PID=1 LISTEN_FDNAMES=a:b:c LISTEN_PIDFDID=1 NOTIFY_SOCKET=/run/none
  export WATCHDOG_USEC=1 WATCHDOG_PID=1 INVOCATION_ID=0 JOURNAL_STREAM=1:1 MAINPID=1
  export CONTAINER_HOST=unix:///run/none.sock CONTAINERS_CONF=/run/none CONTAINERS_STORAGE_CONF=/run/none
  export DBUS_SESSION_BUS_ADDRESS=unix:path=/run/none XDG_CONFIG_HOME=/run/none XDG_DATA_HOME=/run/none
}

other_defaults() {
  folder /etc/containers
  cat > /etc/containers/containers.conf <<'END'
[containers]
cgroups = "disabled"
default_ulimits = ["nofile=64:64"]
env = ["LISTEN_FDS=7"]
init = true
log_driver = "journald"
netns = "host"
umask = "0077"
[engine]
cgroup_manager = "cgroupfs"
pull_policy = "always"
END
}

other_runtime() {
  folder /etc/containers
  printf '[engine]\nruntime = "runc"\n' > /etc/containers/containers.conf
}

other_storage() {
  folder /etc/containers
  cat > /etc/containers/storage.conf <<'END'
[storage]
driver = "vfs"
graphroot = "/nonexistent"
runroot = "/nonexistent"
END
}

other_limits() {
  cat > /etc/systemd/user.conf <<'END'
[Manager]
DefaultLimitNOFILE=64
DefaultTimeoutStartSec=1s
END
}

slow_unit() {
  folder /etc/systemd/user/basic.target.wants
  printf '[Service]\nType=oneshot\nExecStart=/bin/sleep 600\n' > /etc/systemd/user/slow.service
  ln -s ../slow.service /etc/systemd/user/basic.target.wants
}

# -- the run ------------------------------------------------------------------------------------------------------------

eval "$takes"

status=0
start "$@" || status=$?

PATH=/usr/sbin:/usr/bin:/sbin:/bin
for process in /proc/[0-9]*; do
  number=${process#/proc/}
  if [ "$number" -gt "${used:-1}" ] && line=$(tr '\0' ' ' < "$process/cmdline" 2> /dev/null) && [ -n "$line" ]; then
    echo "left behind: process $number $line"
  fi
done
find /sys/fs/cgroup -maxdepth 2 -name "harness-*-$(stat -Lc %i /proc/self/ns/pid)" -exec echo "left behind:" {} \;
exit "$status"
