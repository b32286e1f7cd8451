#!/usr/bin/env bash
# install.sh: the telemetry agent as a service of this machine, hardened, supervised, and shipping.
#
#   sudo ./install.sh                              install, or upgrade to this checkout; asks where to ship
#   sudo ./install.sh --metrics-url URL --metrics-user USER --logs-url URL --logs-user USER --token-file FILE
#   sudo ./install.sh --local                      ship nowhere: metrics at http://127.0.0.1:9465/metrics only
#   sudo ./install.sh --upgrade                    the same for what is installed already; its configuration stays
#   sudo ./install.sh --rollback                   back to the version before
#   sudo ./install.sh --uninstall [--purge]        remove it; with --purge its configuration, data, logs and user too
#   ./install.sh --user …                          each of these without root: in your home, run by a systemd of your own
#
#   What is installed   --wheel FILE · --version VERSION (from a package index) · else the checkout this file lies in
#   Where from          --offline DIR (wheels of everything; no network) · --python FILE (Python 3.11 or newer)
#   Hardening           --open NAME (repeatable): a drop-in of packaging/systemd/telemetry-agent.service.d, e.g. clock
#   How                 --dry-run says what it would do · --yes asks nothing · --quiet says only what fails
#
# Each address may come from the environment too: TELEMETRY_AGENT_METRICS_URL, …_METRICS_USER, …_LOGS_URL, …_LOGS_USER,
# …_TOKEN_FILE. It may be interrupted at any point and run again; what is done already is not done twice. Every step is
# in /var/log/telemetry-agent-install.log (--user: ~/.local/state). Exit status: 0 done · 1 failed, or nothing was delivered · 2 usage.
# shellcheck disable=SC2015  # usage and fail never return, and tests on both sides of && are meant

# Whoever runs it with another shell (sh install.sh) gets bash all the same: nothing above this line is bash's own.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@"
set +o posix
set -euo pipefail
umask 022
export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin LC_ALL=C.UTF-8 LANGUAGE=C
# What would bend Python, pip or cd; where pip gets its packages from stays.
unset CDPATH PYTHONPATH PYTHONHOME PYTHONSTARTUP PYTHONUSERBASE PIP_USER PIP_TARGET PIP_PREFIX PIP_ROOT PIP_PYTHON PIP_REQUIRE_VIRTUALENV

TOKEN=telemetry-agent.token
UNIT=telemetry-agent.service
LEAST_SYSTEMD=247
LEAST_FREE_MB=150
SCRIPT=$(readlink -f "${BASH_SOURCE[0]:-/nowhere}")
HERE=$(dirname "$SCRIPT")

ACTION=install PURGE=no DRY=no YES=no QUIET=no LOCAL=no MINE=no
WHEEL='' VERSION='' OFFLINE='' PYTHON='' OPEN=()
METRICS_URL=${TELEMETRY_AGENT_METRICS_URL:-} METRICS_USER=${TELEMETRY_AGENT_METRICS_USER:-}
LOGS_URL=${TELEMETRY_AGENT_LOGS_URL:-} LOGS_USER=${TELEMETRY_AGENT_LOGS_USER:-}
TOKEN_FILE=${TELEMETRY_AGENT_TOKEN_FILE:-}
WORK='' DIR='' STEP=0 SAID=no CHANGED=no STARTED=no HUSHED=no WROTE=no

# ---------------------------------------------------------------- where it goes

of_the_machine() {
  PREFIX=/opt/telemetry-agent CONFIG_DIR=/etc/telemetry-agent UNITS=/etc/systemd/system COMMAND=/usr/local/bin/telemetry-agent
  STATE=/var/lib/telemetry-agent RUN=/run
  LOG=/var/log/telemetry-agent-install.log LOCK=/run/telemetry-agent-install.lock
  OWNER=root READER=telemetry-agent VARIABLES=/etc/default/telemetry-agent
  STORES=({/etc,/run,/usr/local/lib,/usr/lib}/credstore)
  SUDO='sudo ' SYSTEMCTL=(systemctl) JOURNALCTL=(journalctl) ENVIRONMENT=()
  derived
}

# All of it in one home, as packaging/systemd/user/telemetry-agent.service has it, and run by that user's own systemd.
of_a_user() {
  local home
  home=$(getent passwd "$(id -u)" | cut -d: -f6)
  PREFIX=$home/.local/share/telemetry-agent CONFIG_DIR=$home/.config/telemetry-agent UNITS=$home/.config/systemd/user
  COMMAND=$home/.local/bin/telemetry-agent STATE=$home/.local/state/telemetry-agent
  export XDG_RUNTIME_DIR=${XDG_RUNTIME_DIR:-/run/user/$(id -u)}
  RUN=$XDG_RUNTIME_DIR LOG=$STATE-install.log LOCK=$STATE-install.lock
  OWNER=$(id -gn) READER=$(id -gn) VARIABLES=$CONFIG_DIR/environment
  STORES=("$home/.config/credstore")
  SUDO='' SYSTEMCTL=(systemctl --user) JOURNALCTL=(journalctl --user)
  ENVIRONMENT=("TELEMETRY_AGENT__AGENT__STATE_DIR=$STATE" "TELEMETRY_AGENT__AGENT__LOG_DIR=$STATE/log" "TELEMETRY_AGENT__AGENT__RUN_DIR=$RUN/telemetry-agent")
  derived
}

derived() {
  CONFIG=$CONFIG_DIR/config.toml DROP_INS=$UNITS/$UNIT.d PENDING=$PREFIX/.restart BACK=$PREFIX/.back DISCARDED=$PREFIX/.discarded OURS=$PREFIX/.by-install.sh
}

# ---------------------------------------------------------------- what is said and logged

log() { [ ! -w "$LOG" ] || printf '%s %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$*" 2>/dev/null >>"$LOG" || :; } # a full disk is told by what fails
say() { log "$*"; [ "$QUIET" = yes ] || printf '%s\n' "$*"; }
step() { STEP=$((STEP + 1)); say "[$STEP] $*"; }
note() { say "    $*"; }
warn() { log "$*"; printf '%s\n' "$*" >&2 || :; }
fail() { SAID=yes; warn "install.sh: $1"; shift; for line in "$@"; do warn "  $line"; done; exit 1; }
usage() { SAID=yes; printf 'install.sh: %s\n' "$*" >&2; printf '  ./install.sh --help says more\n' >&2; exit 2; }

# Runs a command, its output in the log; with --dry-run only says so. What it said last is shown where it fails.
run() {
  if [ "$DRY" = yes ]; then note "would run: $*"; return; fi
  log "+ $*"
  local status=0
  "$@" >"$WORK/said" 2>&1 </dev/null || status=$?
  [ ! -w "$LOG" ] || cat "$WORK/said" 2>/dev/null >>"$LOG" || :
  [ "$status" = 0 ] || { tail -n 8 "$WORK/said" >&2; return "$status"; }
}

# Puts a file in its place where it is not there as it should be, whole or not at all; then a restart is due.
place() { # FROM TO MODE [GROUP]
  if cmp -s "$1" "$2" && [ "$(stat -c %a "$2")" = "${3#0}" ]; then return; fi
  CHANGED=yes
  if [ "$DRY" = yes ]; then note "would write $2"; return; fi
  log "write $2"
  mkdir -p "$(dirname "$2")" "$PREFIX"
  : >"$PENDING"
  install -m "$3" -g "${4:-$OWNER}" "$1" "$2.new"
  mv -f "$2.new" "$2"
}

remove() {
  local path
  for path in "$@"; do
    [ -e "$path" ] || [ -L "$path" ] || continue
    if [ "$DRY" = yes ]; then note "would remove $path"; else log "remove $path"; rm -rf --one-file-system "$path"; fi
  done
}

# A version goes under another name first: what an interruption would leave of it must not be taken for one, nor for
# somebody else's.
discard() { # FOLDER
  if [ "$DRY" = yes ]; then note "would remove $1"; return; fi
  log "remove $1"
  rm -rf --one-file-system "$DISCARDED"
  mv -T "$1" "$DISCARDED"
  rm -rf --one-file-system "$DISCARDED"
}

# shellcheck disable=SC2317,SC2329  # the trap calls it
tidy() {
  local status=$?
  trap - EXIT INT TERM HUP PIPE
  [ "$HUSHED" = no ] || stty echo </dev/tty || :
  [ -z "$WORK" ] || rm -rf "$WORK" "$WORK.credentials"
  # Half a version is of no use, and may be what fills the disk.
  [ "$status" = 0 ] || [ -z "$DIR" ] || ! half "$DIR" || discard "$DIR"
  [ "$status" -lt 128 ] || warn "install.sh: interrupted; run it again, it goes on from where it was"
  [ "$status" = 0 ] || [ "$status" -ge 128 ] || [ "$SAID" = yes ] || warn "install.sh: step $STEP failed; the last words are above, all of them in $LOG"
  exit "$status"
}

# ---------------------------------------------------------------- what is asked

arguments() {
  while [ $# -gt 0 ]; do
    case $1 in
      --*=*) set -- "${1%%=*}" "${1#*=}" "${@:2}"; continue;;
      --metrics-url | --metrics-user | --logs-url | --logs-user | --token-file | --wheel | --version | --offline | --python | --open)
        [ $# -ge 2 ] && [ -n "$2" ] || usage "$1 needs a value";;&
      --metrics-url) METRICS_URL=$2; shift 2;;
      --metrics-user) METRICS_USER=$2; shift 2;;
      --logs-url) LOGS_URL=$2; shift 2;;
      --logs-user) LOGS_USER=$2; shift 2;;
      --token-file) TOKEN_FILE=$2; shift 2;;
      --wheel) WHEEL=$2; shift 2;;
      --version) VERSION=$2; shift 2;;
      --offline) OFFLINE=$2; shift 2;;
      --python) PYTHON=$2; shift 2;;
      --open) OPEN+=("$2"); shift 2;;
      --local) LOCAL=yes; shift;;
      --user) MINE=yes; shift;;
      --upgrade | --rollback | --uninstall) ACTION=${1#--}; shift;;
      --purge) PURGE=yes; shift;;
      --dry-run) DRY=yes; shift;;
      --yes | -y) YES=yes; shift;;
      --quiet | -q) QUIET=yes; shift;;
      --help | -h) sed -n '2,/^# shellcheck/{/^# shellcheck/d;s/^# \{0,1\}//;p}' "$SCRIPT"; exit 0;;
      *) usage "'$1' is not an option";;
    esac
  done
  of_the_machine
  if [ "$MINE" = yes ]; then
    [ "$(id -u)" != 0 ] || usage "--user is for who is not root; root installs it for the machine: ./install.sh"
    [ "${#OPEN[@]}" = 0 ] || usage "--open goes with what --user has not: there is nothing closed that a user could open"
    of_a_user
  fi
  [ "$PURGE" = no ] || [ "$ACTION" = uninstall ] || usage "--purge goes with --uninstall"
  [ -z "$WHEEL" ] || [ -f "$WHEEL" ] || usage "--wheel $WHEEL: no such file"
  case ${WHEEL##*/} in '' | telemetry_agent-[0-9]*.whl) ;; *) usage "--wheel $WHEEL: not a wheel of telemetry-agent (telemetry_agent-….whl)";; esac
  case $VERSION in '') ;; *[!0-9A-Za-z.+!]* | [!0-9]*) usage "--version $VERSION: not a version";; esac
  [ -z "$WHEEL" ] || [ -z "$VERSION" ] || usage "--wheel and --version name two things; give one"
  [ -z "$OFFLINE" ] || [ -d "$OFFLINE" ] || usage "--offline $OFFLINE: no such directory"
  [ -z "$TOKEN_FILE" ] || { [ -r "$TOKEN_FILE" ] && [ ! -d "$TOKEN_FILE" ]; } || usage "--token-file $TOKEN_FILE: no such file"
  addresses
  [ -z "$METRICS_USER$LOGS_USER" ] || [ -n "$TOKEN_FILE" ] || [ -e "$CONFIG" ] ||
    usage "a user needs its token: --token-file FILE"
  local name
  # From here on nothing depends on where it was started, which Python would look for modules.
  for name in WHEEL OFFLINE PYTHON TOKEN_FILE; do
    case ${!name} in '' | /*) ;; *) printf -v "$name" %s "$PWD/${!name}";; esac
  done
  cd /
  for name in ${OPEN[@]+"${OPEN[@]}"}; do
    [ -f "$HERE/packaging/systemd/$UNIT.d/$name.conf.example" ] ||
      usage "--open $name: there are $(cd "$HERE/packaging/systemd/$UNIT.d" && printf '%s ' *.example | sed 's/\.conf\.example//g')"
  done
}

addresses() { # what they hold is not said: it may be a secret
  local name host
  for name in METRICS_URL LOGS_URL; do
    host=${!name#http*://}
    case ${!name} in
      '') ;;
      *[[:space:]]*) usage "$(flag "$name") holds a space or a line break";;
      http://?* | https://?*) [ "${host%%/*}" = "${host%%[/@]*}" ] || usage "$(flag "$name") holds a user or a password; users have an option, and --token-file takes what is secret";;
      *) usage "$(flag "$name") does not begin with http:// or https://";;
    esac
  done
}

flag() { local name=${1,,}; printf -- '--%s' "${name/_/-}"; } # METRICS_URL: --metrics-url

# One line, whatever ended it; from /dev/stdin too, which can be read once.
take_token() {
  [ -n "$TOKEN_FILE" ] && [ "$TOKEN_FILE" != "$WORK/token" ] || return 0
  (umask 077 && tr -d '\r\0' <"$TOKEN_FILE" | sed '/^[[:space:]]*$/d' >"$WORK/token-given")
  case $(wc -l <"$WORK/token-given") in
    0) [ -s "$WORK/token-given" ] || usage "--token-file $TOKEN_FILE is empty";;
    1) ;;
    *) usage "--token-file $TOKEN_FILE has several lines; the token alone belongs in it";;
  esac
  (umask 077 && tr -d '\n' <"$WORK/token-given" >"$WORK/token")
  TOKEN_FILE=$WORK/token
}

asked() { # PROMPT: what is answered
  local answer
  printf '%s ' "$1" >/dev/tty
  IFS= read -r answer </dev/tty || exit 1
  printf '%s' "$answer"
}

# Asks on a terminal where to ship, where nothing said so.
where_to_ship() {
  [ "$LOCAL$METRICS_URL$LOGS_URL" = no ] && [ ! -e "$CONFIG" ] || return 0
  if [ "$DRY" = yes ]; then LOCAL=yes; note "would ask where to ship; from here on as with --local"; return; fi
  [ -t 0 ] && [ "$YES" = no ] ||
    usage "say where to ship: --metrics-url URL and --logs-url URL (with users and --token-file), or --local"
  printf '\nWhere to?\n  1  Grafana Cloud\n  2  a Prometheus or Mimir (remote_write), a Loki\n  3  nowhere: it is scraped\n'
  case $(asked '1, 2 or 3:') in
    1)
      printf 'Your stack at grafana.com, "Details", has the URLs and users; the token needs metrics:write and logs:write.\n'
      METRICS_URL=$(asked 'Prometheus: remote write URL (https://…/api/prom/push):') METRICS_USER=$(asked 'Prometheus: user (a number):')
      LOGS_URL=$(asked 'Loki: URL (https://logs-…):') LOGS_USER=$(asked 'Loki: user (a number):')
      ;;
    2)
      METRICS_URL=$(asked 'remote_write URL (empty for none):')
      [ -z "$METRICS_URL" ] || METRICS_USER=$(asked 'user there (empty for none):')
      LOGS_URL=$(asked 'Loki URL (empty for none):')
      [ -z "$LOGS_URL" ] || LOGS_USER=$(asked 'user there (empty for none):')
      ;;
    3) LOCAL=yes; return;;
    *) usage "1, 2 or 3";;
  esac
  [ -n "$METRICS_URL$LOGS_URL" ] || usage "no URL was given; run it again with --local to ship nowhere"
  addresses
  if [ -z "$TOKEN_FILE" ]; then
    local token
    HUSHED=yes
    stty -echo </dev/tty # before it is asked: who pastes is quick
    printf 'Token or password (empty for none; it is not shown): ' >/dev/tty
    IFS= read -r token </dev/tty || :
    stty echo </dev/tty
    HUSHED=no
    printf '\n' >/dev/tty
    [ -z "$token" ] || { TOKEN_FILE=$WORK/token; (umask 077 && printf '%s' "$token" >"$TOKEN_FILE"); }
  fi
}

# ---------------------------------------------------------------- what the machine is

os_release() (
  # shellcheck disable=SC1091  # in a shell of its own: it sets VERSION, which is ours
  [ ! -r /etc/os-release ] || . /etc/os-release
  printf '%s' "${!1:-}"
)

machine() {
  [ "$(uname -s)" = Linux ] || fail "this is $(uname -s); the agent runs on Linux"
  case $(uname -m) in x86_64 | aarch64) ;; *) fail "this machine is $(uname -m); there is x86_64 (amd64) and aarch64 (arm64)";; esac
  [ "$(getconf LONG_BIT 2>/dev/null || echo 64)" = 64 ] || fail "this system is 32 bits wide on a $(uname -m) kernel; the agent needs one of 64 bits"
  ID=$(os_release ID) ID_LIKE=$(os_release ID_LIKE) PRETTY_NAME=$(os_release PRETTY_NAME)
  case " $ID $ID_LIKE " in
    *' debian '* | *' ubuntu '*) MANAGER=apt-get;;
    *' fedora '* | *' rhel '* | *' centos '* | *' amzn '*) MANAGER=$(command -v dnf || command -v dnf5 || command -v yum || command -v microdnf || echo dnf);;
    *suse*) MANAGER=zypper;;
    *' arch '*) MANAGER=pacman;;
    *) MANAGER='';;
  esac
  if [ ! -d /run/systemd/system ]; then
    if in_wsl; then
      fail "systemd does not run in this WSL" "Switch it on: add these two lines to /etc/wsl.conf" "  [boot]" "  systemd=true" \
        "then, in Windows: wsl.exe --shutdown, open the distribution again, and run this again."
    fi
    fail "systemd is not what runs this machine (no /run/systemd/system)" \
      "In a container or on another init system, run the agent in the foreground: make run, or telemetry-agent run."
  fi
  SYSTEMD=$(systemctl --version | sed -nE '1s/^systemd ([0-9]+).*/\1/p')
  [ "${SYSTEMD:-0}" -ge "$LEAST_SYSTEMD" ] ||
    fail "systemd is ${SYSTEMD:-unknown}, and $LEAST_SYSTEMD is the oldest that takes the unit's credentials and sandbox" \
      "Upgrade the distribution ($PRETTY_NAME), or run the agent in the foreground by a unit of your own."
  foreign
  own_systemd
  note "$PRETTY_NAME, $(uname -m), systemd $SYSTEMD"
  ! in_wsl || note "WSL ends this distribution when its last window closes, services or not; the agent goes on at its next start"
}

# A user has a systemd of their own from the first login on, or with linger from the boot on.
own_systemd() {
  [ "$MINE" = no ] || "${SYSTEMCTL[@]}" show --property=Version >/dev/null 2>&1 ||
    fail "no systemd runs for $(id -un) (nothing answers in $RUN)" \
      "Log in as $(id -un) (by ssh or on a terminal: su and sudo do not start one), or have root run" \
      "  loginctl enable-linger $(id -un)" "and run this again. It takes the package libpam-systemd (Debian, Ubuntu) or systemd-pam."
}

in_wsl() { grep -qis microsoft /proc/sys/kernel/osrelease /proc/version; }

needs() {
  local pair missing=''
  for pair in cmp:diffutils find:findutils xargs:findutils tar:tar awk:gawk sed:sed grep:grep flock:util-linux setpriv:util-linux systemd-sysusers:systemd; do
    command -v "${pair%:*}" >/dev/null || missing="$missing ${pair%:*} (package ${pair#*:})"
  done
  [ -z "$missing" ] || fail "this machine lacks$missing" "Install that and run this again. Nothing was changed."
}

# What somebody else put where it goes is left alone.
foreign() {
  local package folder home
  for package in /usr/lib/systemd/system/$UNIT /lib/systemd/system/$UNIT; do
    [ "$MINE" = yes ] || [ ! -e "$package" ] || fail "the agent is installed as a package here ($package)" \
      "Upgrade, roll back or remove it with ${MANAGER:-the package manager}; the two do not go together."
  done
  [ ! -e "$PREFIX" ] || [ -d "$PREFIX" ] || fail "$PREFIX is there and no folder; it was left as it is"
  if [ -d "$PREFIX" ] && [ ! -e "$OURS" ] && [ -n "$(ls -A "$PREFIX")" ]; then
    for folder in "$PREFIX"/*/; do ! ours "$folder" || return 0; done
    fail "$PREFIX is there, and not by this script" "Its files were left as they are: move them elsewhere and run this again."
  fi
}

ours() { [ -e "$1/.complete" ] || [ -e "$1/.half" ]; } # FOLDER: whether it is a version, or half of one
half() { [ -e "$1/.half" ] && [ ! -e "$1/.complete" ]; }

home_of_user() { getent passwd telemetry-agent | cut -d: -f6 || :; }

# New enough, whole, and where the agent's user may run it too: not one of root's own.
python_fits() {
  local anyone=()
  [ "$(id -u)" != 0 ] || anyone=(setpriv --reuid=65534 --regid=65534 --clear-groups)
  ${anyone[@]+"${anyone[@]}"} "$1" -I -c 'import sys, ssl, sqlite3, ctypes, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

find_python() { # sets PYTHON where there is one; one with pip is better
  local name found
  for name in python3 python3.11 python3.12 python3.13 python3.14; do
    for found in "/usr/bin/$name" "/usr/local/bin/$name" "$(command -v "$name" || :)"; do
      [ -n "$found" ] && python_fits "$found" || continue
      if has_pip "$found"; then PYTHON=$found; return; fi
      PYTHON=${PYTHON:-$found}
    done
  done
  [ -n "$PYTHON" ]
}

has_pip() { "$1" -I -c 'import ensurepip' 2>/dev/null || ls "${OFFLINE:-/nowhere}"/pip-*.whl >/dev/null 2>&1; }

# What the distribution has, one installable set a line, the best first. How its packages are called:
#   Debian, Ubuntu       python3.13 and python3.13-venv, which has pip
#   Fedora, RHEL 10      python3 is new enough; others, as python3.12, beside it
#   RHEL 9, Amazon 2023  python3 is 3.9; python3.11 (9.2), python3.12 (9.4) beside it: docs.redhat.com, "Installing and
#                        using dynamic programming languages", table 1.1; venv and pip come with them
#   openSUSE, SLES       python313 and so on beside python3, which is 3.6 in Leap 15
#   Arch                 python
packages_of_python() {
  local version
  case $MANAGER in
    apt-get)
      if [ -n "$PYTHON" ]; then echo "$("$PYTHON" -I -c 'import sys; print("python%d.%d" % sys.version_info[:2])')-venv"; return; fi
      for version in 3.13 3.12 3.11 3.14; do
        ! apt-cache show "python$version-venv" >/dev/null 2>&1 || echo "python$version python$version-venv"
      done;;
    *dnf | *dnf5 | *yum)
      ! offers python3 | grep -qE -- '-[0-9]+:3\.(1[1-9]|[2-9][0-9])' || echo python3
      for version in 3.12 3.13 3.11 3.14; do [ -z "$(offers "python$version")" ] || echo "python$version"; done;;
    zypper) for version in 312 313 311 314; do ! zypper -q --non-interactive info "python$version" 2>/dev/null | grep -q '^Name' || echo "python$version"; done;;
    pacman) echo python;;
  esac
}

offers() { "$MANAGER" -q -y repoquery "$1" 2>/dev/null || :; } # NAME: packages, as name-epoch:version-release

install_packages() {
  case $MANAGER in
    apt-get) run env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 --no-install-recommends install "$@";;
    zypper) run env ZYPP_LOCK_TIMEOUT=300 zypper --non-interactive install "$@";;
    pacman) run pacman --noconfirm --needed -S "$@";;
    *) run "$MANAGER" -y install "$@";;
  esac
}

python() {
  if [ -n "$PYTHON" ]; then
    python_fits "$PYTHON" || fail "--python $PYTHON is not Python 3.11 or newer with ssl, sqlite3, ctypes and venv that every user may run"
  elif ! find_python || ! has_pip "$PYTHON"; then
    [ "$MANAGER" != apt-get ] || [ "$MINE" = yes ] || [ "$DRY" = yes ] || [ -n "$OFFLINE" ] || run apt-get -q update || :
    local packages=() line
    line=$(packages_of_python | head -n 1)
    read -ra packages <<<"$line"
    [ "${#packages[@]}" -gt 0 ] || no_python
    [ "$MINE" = no ] || fail "this machine lacks ${packages[*]}, which takes root to install" \
      "Have it installed (${MANAGER##*/}: ${packages[*]}), or name another Python with --python FILE, and run this again."
    note "installing ${packages[*]} with ${MANAGER##*/}"
    install_packages "${packages[@]}" || fail "${packages[*]} could not be installed" "Its own words are above and in $LOG."
    if [ "$DRY" = yes ]; then PYTHON=${PYTHON:-/usr/bin/python3}; return; fi
    PYTHON=''
    find_python || no_python
  fi
  has_pip "$PYTHON" || fail "$PYTHON has no ensurepip, and there is no pip-*.whl in ${OFFLINE:-an --offline directory}"
  note "$PYTHON, $("$PYTHON" --version)"
}

no_python() {
  fail "$PRETTY_NAME has $(python3 --version 2>/dev/null || echo 'no Python'); the agent needs Python 3.11 or newer, and $(if [ -n "$MANAGER" ]; then echo "${MANAGER##*/} offers none"; else echo "its package manager is not one of apt, dnf, zypper and pacman"; fi)" \
    "Ways out:" \
    "  where its repositories cannot be reached just now: put that right and run this again, or" \
    "  upgrade to a newer release (Debian 12, Ubuntu 24.04, RHEL 9 and their likes have one), or" \
    "  bring one: uv python install --install-dir /opt/python 3.12   and run this again with" \
    "             --python /opt/python/cpython-3.12…/bin/python3 (a place that every user may read)." \
    "Nothing was changed."
}

# ---------------------------------------------------------------- a version

# What it is, and a name for where it goes: the version, or the version and a mark where another build of it is there.
name_version() {
  local version
  if [ -z "$WHEEL$VERSION" ] && [ ! -f "$HERE/pyproject.toml" ] && [ -n "$OFFLINE" ]; then
    WHEEL=$(find "$OFFLINE" -name 'telemetry_agent-[0-9]*.whl' | sort -V | tail -n 1)
  fi
  if [ -n "$WHEEL" ]; then
    version=$(basename "$WHEEL" | cut -d- -f2)
    BUILD=$(sha256sum <"$WHEEL" | cut -c1-16)
  elif [ -n "$VERSION" ]; then
    version=$VERSION BUILD=index
  else
    [ -f "$HERE/pyproject.toml" ] || fail "there is no checkout around ${SCRIPT:-this script}" "Give --wheel FILE, --version VERSION or --offline DIR with a wheel of it."
    version=$(sed -nE 's/^__version__ = "(.*)"/\1/p' "$HERE/agent/__init__.py")
    BUILD=$(cd "$HERE" && find agent packaging pyproject.toml -type f ! -path '*/__pycache__/*' -print0 | sort -z | xargs -0 sha256sum | sha256sum | cut -c1-16)
  fi
  BUILD="$BUILD $PYTHON $("$PYTHON" --version 2>/dev/null || :)"
  NAME=$version
  [ ! -e "$PREFIX/$NAME/.complete" ] || [ "$(cat "$PREFIX/$NAME/.complete")" = "$BUILD" ] ||
    NAME=$version+$(sha256sum <<<"$BUILD" | cut -c1-8)
  DIR=$PREFIX/$NAME
}

pip() { # VERB …
  local where=() verb=$1
  shift
  [ -z "$OFFLINE" ] || [ "$verb" = uninstall ] || where=(--no-index --find-links "$OFFLINE") # not in the environment, where a space parts two
  run env PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_NO_CACHE_DIR=1 "$DIR/bin/python" "${PIP[@]}" "$verb" ${where[@]+"${where[@]}"} "$@"
}

# Built aside of everything that runs; .complete comes last, and a folder without it is made anew.
build_version() {
  if [ -e "$DIR/.complete" ] && [ "$(cat "$DIR/.complete")" = "$BUILD" ]; then note "$NAME is there already"; return; fi
  if [ "$DRY" = yes ]; then note "would install $NAME into $DIR"; return; fi
  [ ! -e "$DIR" ] || ours "$DIR" || fail "$DIR is there, and not by this script; it was left as it is"
  local folder
  for folder in "$PREFIX"/*/; do ! half "$folder" || discard "${folder%/}"; done
  [ ! -e "$DIR" ] || discard "$DIR"
  rm -rf --one-file-system "$DISCARDED"
  # It has its mark from the beginning.
  mkdir -p "$PREFIX" && : >"$OURS" && mkdir "$DISCARDED" && : >"$DISCARDED/.half" && mv -T "$DISCARDED" "$DIR"
  room
  run "$PYTHON" -m venv --without-pip "$DIR"
  PIP=(-m pip)
  if "$PYTHON" -I -c 'import ensurepip' 2>/dev/null; then
    run "$DIR/bin/python" -m ensurepip
  else
    PIP=("$(find "$OFFLINE" -name 'pip-*.whl' | sort -V | tail -n 1)/pip")
  fi
  local what=$WHEEL
  if [ -n "$VERSION" ]; then
    what=telemetry-agent==$VERSION
  elif [ -z "$WHEEL" ]; then
    note "building a wheel from $HERE"
    mkdir -p "$WORK/src" "$WORK/wheel"
    tar -C "$HERE" --exclude=__pycache__ -cf - agent pyproject.toml README.md LICENSE | tar -C "$WORK/src" -xf -
    pip wheel -q --no-deps -w "$WORK/wheel" "$WORK/src" ||
      fail "the wheel could not be built" "It takes setuptools: from the network, or as setuptools-*.whl in the --offline directory."
    what=$(echo "$WORK"/wheel/telemetry_agent-*.whl)
  fi
  note "installing it and what it needs"
  pip install -q --no-compile "$what" ||
    fail "it could not be installed" "pip's own words are above and in $LOG." \
      "Without a network: pip download telemetry-agent (or its wheel) on another machine, and --offline DIR."
  [ "${PIP[0]}" != -m ] || pip uninstall -q -y pip setuptools >/dev/null || :
  note "compiling, so that no start has to"
  # For PYTHONOPTIMIZE=2, as the service runs. Of the standard library what it imports, beside ours and not in /usr.
  run env PYTHONPYCACHEPREFIX="$DIR/pycache" "$DIR/bin/python" -OO -m compileall -qq "$DIR/lib" || :
  run env PYTHONPYCACHEPREFIX="$DIR/pycache" "$DIR/bin/python" -OO -c 'import agent, importlib, pkgutil
for module in pkgutil.walk_packages(agent.__path__, "agent."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)' || fail "$NAME does not load with $PYTHON; nothing was started or stopped"
  mkdir -p "$DIR/packaging"
  cp -R "$HERE"/packaging/{systemd,scripts,sysusers.d,tmpfiles.d} "$DIR/packaging/"
  run "$DIR/bin/telemetry-agent" --version
  sync -f "$DIR" 2>/dev/null || sync
  printf '%s\n' "$BUILD" >"$DIR/.complete.new"
  mv "$DIR/.complete.new" "$DIR/.complete"
  rm -f "$DIR/.half"
}

# What would only show half way through, in other words.
room() {
  local free
  free=$(df -Pk "$DIR" | awk 'END {print int($4 / 1024)}')
  [ "$free" -ge "$LEAST_FREE_MB" ] || fail "$PREFIX has $free MB free; a version takes $LEAST_FREE_MB"
  printf '#!/bin/sh\n' >"$DIR/.half" && chmod 755 "$DIR/.half"
  "$DIR/.half" 2>/dev/null || fail "nothing may be executed below $PREFIX: its file system is mounted noexec" \
    "Mount it with exec, or make $PREFIX a link to a folder on another one."
}

# ---------------------------------------------------------------- user, configuration, secret

user_and_directories() {
  local home
  if [ "$MINE" = yes ]; then
    run mkdir -p "$CONFIG_DIR/config.d" "$STATE"
    run mkdir -p -m 0700 "$CONFIG_DIR/credentials"
    return
  fi
  home=$(home_of_user)
  [ -z "$home" ] || [ "$home" = "$STATE" ] || warn "    there is a user telemetry-agent already, with the home $home: it is the service's from now on, and --purge leaves it"
  run systemd-sysusers "$DIR/packaging/sysusers.d/telemetry-agent.conf"
  run systemd-tmpfiles --create "$DIR/packaging/tmpfiles.d/telemetry-agent.conf"
}

quoted() { local text=${1//\\/\\\\}; printf '"%s"' "${text//\"/\\\"}"; }

destination() { # TYPE URL USER
  printf '\n[export.%s]\nurl = %s\n' "$1" "$(quoted "$2")"
  [ -z "$3" ] || printf 'user = %s\n' "$(quoted "$3")"
  [ -z "$TOKEN_FILE" ] || printf 'token_file = "%%d/%s"        # a systemd credential; install.sh --token-file FILE changes it\n' "$TOKEN"
}

configuration() {
  cat <<TOML
# Written by install.sh, which leaves it alone from now on. Every option: docs/configuration.md.
# After a change: $SUDO${SYSTEMCTL[*]} reload telemetry-agent; it is refused, and the old one goes on, where it has a fault.

[collect.host]                        # metrics under node_exporter's names

[serve]
listen = "127.0.0.1:$(port)"             # /metrics, /status, /health
TOML
  if [ -n "$LOGS_URL" ]; then
    printf '\n[collect.journal]\n'
    printf '\n[collect.file]                        # what the journal does not have\npaths = ["/var/log/nginx/*.log", "/var/log/apache2/*.log", "/var/log/httpd/*_log"]\n'
  fi
  [ -z "$METRICS_URL" ] || destination remote_write "$METRICS_URL" "$METRICS_USER"
  [ -z "$LOGS_URL" ] || destination loki "$LOGS_URL" "$LOGS_USER"
}

port() { # beside the machine's own agent a user's takes the next one
  local port=9465
  while [ "$MINE" = yes ] && (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do port=$((port + 1)); done
  printf %s "$port"
}

write_configuration() {
  if [ -e "$CONFIG" ]; then
    note "$CONFIG is there and stays as it is"
    [ -z "$METRICS_URL$LOGS_URL" ] || warn "    the addresses given are not used: write them there, and: ${SYSTEMCTL[*]} reload telemetry-agent"
  elif [ "$DRY" = yes ]; then
    note "would write $CONFIG:"
    [ "$QUIET" = yes ] || configuration | sed 's/^/      /'
  else
    configuration >"$WORK/config.toml"
    place "$WORK/config.toml" "$CONFIG" 0640 "$READER"
    WROTE=yes
  fi
}

# Encrypted with this machine's key where systemd can, else a file that only root may read.
store_token() {
  [ -n "$TOKEN_FILE" ] || return 0
  local stored=$CONFIG_DIR/credentials/$TOKEN kind=LoadCredential
  if [ "$DRY" = yes ]; then note "would store the token in $stored"; return; fi
  if token_now >"$WORK/token-now" && cmp -s "$WORK/token-now" "$TOKEN_FILE"; then note "the token is stored already"; return; fi
  (umask 077 && cat "$TOKEN_FILE" >"$WORK/token-plain")
  if [ "$MINE" = no ] && run systemd-creds encrypt --name="$TOKEN" "$WORK/token-plain" "$WORK/token-stored" 2>/dev/null &&
    systemd-creds decrypt --name="$TOKEN" "$WORK/token-stored" - 2>/dev/null | cmp -s - "$TOKEN_FILE"; then
    kind=LoadCredentialEncrypted
  else
    cp "$WORK/token-plain" "$WORK/token-stored"
  fi
  printf '[Service]\n%s=%s:%s\n' "$kind" "$TOKEN" "$stored" >"$WORK/credentials.conf"
  place "$WORK/token-stored" "$stored" 0600
  place "$WORK/credentials.conf" "$DROP_INS/credentials.conf" 0644
  note "the token is in $stored, $([ "$kind" = LoadCredential ] && echo "which only $(id -un) may read" || echo 'encrypted for this machine')"
}

token_now() { # the token as it is stored; fails where there is none
  local stored=$CONFIG_DIR/credentials/$TOKEN
  [ -s "$stored" ] || return 1
  if grep -qs '^LoadCredentialEncrypted=' "$DROP_INS/credentials.conf"; then
    systemd-creds decrypt --name="$TOKEN" "$stored" - 2>/dev/null
  else
    cat "$stored"
  fi
}

# What systemd will hand it: what the drop-ins load, then what has the right name in a credential store (systemd 254).
credentials_into() { # FOLDER
  local name path encrypted store
  while IFS=$'\t' read -r encrypted name path; do credential_into "$1" "$name" "$path" "$encrypted"; done < <(
    sed -nE 's/^LoadCredential(Encrypted)?=([^:]+):(\/.*)$/\1:\t\2\t\3/p' "$DROP_INS"/*.conf 2>/dev/null
  )
  [ "$SYSTEMD" -ge 254 ] || return 0
  for encrypted in '' .encrypted; do
    for store in "${STORES[@]}"; do
      for path in "$store$encrypted"/telemetry-agent.*; do credential_into "$1" "${path##*/}" "$path" "${encrypted:-:}"; done
    done
  done
}

credential_into() { # FOLDER NAME PATH ENCRYPTED: the first of a name counts; : means that it is plain
  [ -s "$3" ] && [ ! -e "$1/$2" ] || return 0
  if [ "$4" = : ]; then cat "$3" >"$1/$2"; else systemd-creds decrypt --name="$2" "$3" "$1/$2" 2>/dev/null || :; fi
}

# As the agent's user, with its credentials: what is wrong is found before anything is started or stopped.
check() { # DIR
  if [ "$DRY" = yes ]; then note "would run: telemetry-agent check"; return; fi
  local credentials=$WORK.credentials
  (umask 077 && mkdir -p "$credentials" && credentials_into "$credentials")
  local environment=(${ENVIRONMENT[@]+"${ENVIRONMENT[@]}"}) as=()
  if [ "$MINE" = no ]; then
    chown -R telemetry-agent "$credentials"
    as=(setpriv --reuid=telemetry-agent --regid=telemetry-agent --init-groups)
  fi
  [ ! -r "$VARIABLES" ] || mapfile -t -O "${#environment[@]}" environment < <(grep -E '^[A-Za-z_][A-Za-z0-9_]*=' "$VARIABLES" | sed -E "s/=([\"'])(.*)\1\$/=\2/")
  cd /
  run ${as[@]+"${as[@]}"} \
    env PYTHONDONTWRITEBYTECODE=1 ${environment[@]+"${environment[@]}"} CREDENTIALS_DIRECTORY="$credentials" "$1/bin/telemetry-agent" check --config "$CONFIG" ||
    faulty
  note "$(head -n 1 "$WORK/said")"
}

faulty() {
  if [ "$WROTE" = yes ]; then
    rm -f "$CONFIG"
    fail "what was given makes a configuration with the faults above; it was not kept, and nothing was started or stopped"
  fi
  fail "the configuration has the faults above; nothing was started or stopped" "Put it right in $CONFIG and run this again."
}

# ---------------------------------------------------------------- the service

link() { ln -sfn "$1" "$2.new" && mv -fT "$2.new" "$2"; }

# Makes a version the one that runs at the next start.
activate() { # DIR
  local packaging=$1/packaging/systemd unit name
  [ "$DRY" = no ] || [ -d "$packaging" ] || packaging=$HERE/packaging/systemd
  local units=("$packaging"/telemetry-agent*.service "$packaging"/telemetry-agent*.socket) command=telemetry-agent
  [ "$MINE" = no ] || units=("$packaging/user/$UNIT") command=telemetry-agent-of-a-user
  for unit in "${units[@]}"; do place "$unit" "$UNITS/$(basename "$unit")" 0644; done
  for name in 253 254 260; do
    if [ "$SYSTEMD" -ge "$name" ]; then place "$packaging/systemd-$name.conf" "$DROP_INS/10-systemd-$name.conf" 0644; fi
  done
  for name in ${OPEN[@]+"${OPEN[@]}"}; do place "$packaging/$UNIT.d/$name.conf.example" "$DROP_INS/$name.conf" 0644; done
  [ "$MINE" = yes ] || unshare --user true 2>/dev/null ||
    place "$packaging/$UNIT.d/no-user-namespace.conf.example" "$DROP_INS/no-user-namespace.conf" 0644
  place "$packaging/../scripts/$command" "$COMMAND" 0755
  if [ "$(readlink "$PREFIX/current" || :)" != "$(basename "$1")" ]; then
    CHANGED=yes
    if [ "$DRY" = yes ]; then note "would make $(basename "$1") the current version"; return; fi
    log "current: $(readlink "$PREFIX/current" || echo none) -> $(basename "$1")"
    : >"$PENDING"
    [ ! -L "$PREFIX/current" ] || link "$(readlink "$PREFIX/current")" "$PREFIX/previous"
    link "$(basename "$1")" "$PREFIX/current"
  fi
}

# With SELinux, systemd starts only what has the label of a program: bin_t, which the policy gives below /opt/…/bin.
relabel() {
  [ "$MINE" = no ] && [ -e /sys/fs/selinux/enforce ] && command -v restorecon >/dev/null || return 0
  run restorecon -R "$PREFIX" "$CONFIG_DIR" "$COMMAND" "$UNITS"/telemetry-agent* || :
}

# Starts what is not running, and again what runs and has changed; returns when it has said READY.
start() {
  run "${SYSTEMCTL[@]}" daemon-reload
  run "${SYSTEMCTL[@]}" enable "$UNIT" || return
  if [ "$CHANGED" = no ] && [ ! -e "$PENDING" ] && "${SYSTEMCTL[@]}" -q is-active "$UNIT"; then note "it runs, and nothing has changed"; return; fi
  run "${SYSTEMCTL[@]}" reset-failed "$UNIT" 2>/dev/null || :
  local began ended
  began=$(date +%s%N)
  run "${SYSTEMCTL[@]}" restart "$UNIT" || return
  [ "$DRY" = no ] || return 0
  ended=$(date +%s%N)
  run "${SYSTEMCTL[@]}" try-restart 'telemetry-agent@*.service' || return
  rm -f "$PENDING"
  STARTED=yes
  note "READY after $(((ended - began) / 1000000)) ms"
}

not_started() {
  warn "What it said last:"
  journalctl --sync 2>/dev/null || sleep 1
  "${JOURNALCTL[@]}" -u "$UNIT" -n 15 --no-pager -o cat >&2 2>/dev/null || :
}

# Waits until something has arrived at every destination, or says which has nothing and why.
prove() {
  if [ "$DRY" = yes ]; then note "would wait until something has arrived at every destination"; return; fi
  systemd-cat -t telemetry-agent-install echo "install.sh asks whether this line arrives" 2>/dev/null || :
  "$DIR/bin/python" - "$COMMAND" "$1" <<'PY' >"$WORK/proof" && status=0 || status=$?
import json, subprocess, sys, time, urllib.request

PATIENCE_SECONDS = 20  # longer than a cycle of the host's metrics
command, before = sys.argv[1], json.loads(sys.argv[2] or "{}")


def ask(what):
    ran = subprocess.run([command, what, "--json"], capture_output=True, text=True)
    return json.loads(ran.stdout) if ran.returncode == 0 else {}


def arrived(name, lanes):
    return lanes.get(name, {}).get("delivered", 0) - before.get(name, 0)


began = time.monotonic()
while True:
    lanes, status = ask("ledger").get("lanes", {}), ask("status")
    current = [lane for lane in status.get("lanes", ()) if lane["state"] not in ("orphaned", "retired")]
    missing = [lane for lane in current if arrived(lane["name"], lanes) <= 0]
    passed = time.monotonic() - began
    quiet = all(not lane["waiting_records"] and not lane["last_error"] for lane in missing)
    failing = all(lane["hold_reason"] or lane["last_error"] for lane in missing)
    enough = 8 if failing or (quiet and len(missing) < len(current)) else PATIENCE_SECONDS
    if status and (not missing or passed > enough):
        break
    if not status and passed > PATIENCE_SECONDS:
        print("    it does not answer on its control socket")
        sys.exit(1)
    time.sleep(0.25)
for lane in current:
    why = lane["hold_reason"] or lane["last_error"] or ("waiting" if lane["waiting_records"] else "nothing to send yet")
    number = arrived(lane["name"], lanes)
    print(f"    {lane['name']}: " + (f"{number:,} records delivered" if number > 0 else f"nothing delivered: {why}"))
if not current:
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(status["endpoint"] + "/metrics", timeout=20) as answer:
        series = sum(line.startswith(b"node_") for line in answer)
    print(f"    {status['endpoint']}/metrics: {series} series of this machine")
    sys.exit(not series)
sys.exit(not (quiet and len(missing) < len(current)))
PY
  cat "$WORK/proof" 2>/dev/null >>"$LOG" || :
  [ "$QUIET" = yes ] && [ "$status" = 0 ] || cat "$WORK/proof"
  return "$status"
}

delivered_before() {
  [ "$DRY" = no ] && [ -x "$COMMAND" ] && [ -d "$STATE/spool" ] || return 0
  "$COMMAND" ledger --json 2>/dev/null | "$PYTHON" -c 'import json, sys
print(json.dumps({name: lane.get("delivered", 0) for name, lane in json.load(sys.stdin)["lanes"].items()}))' 2>/dev/null || :
}

# Only what runs and what it can go back to is kept.
prune() {
  local kept folder
  [ "$DRY" = yes ] || rm -rf --one-file-system "$DISCARDED"
  kept=" $(readlink "$PREFIX/current" || :) $(readlink "$PREFIX/previous" || :) "
  for folder in "$PREFIX"/*/; do
    folder=${folder%/}
    [ ! -L "$folder" ] && ours "$folder" || continue
    case $kept in *" ${folder##*/} "*) ;; *) discard "$folder";; esac
  done
}

# ---------------------------------------------------------------- the actions

install_or_upgrade() {
  [ "$ACTION" = install ] || [ -e "$PREFIX/current" ] || fail "nothing is installed to upgrade" "sudo ./install.sh installs it."
  step "Looking at the machine"
  machine
  where_to_ship
  step "Python"
  python
  name_version
  local before after=''
  before=$(readlink -f "$PREFIX/current" || :)
  step "telemetry-agent $NAME"
  build_version
  step "User, configuration, secret"
  user_and_directories
  write_configuration
  store_token
  step "Checking the configuration"
  check "$DIR"
  step "Starting"
  [ -z "$before" ] || after=$(delivered_before)
  [ "$DRY" = yes ] || rm -f "$BACK"
  activate "$DIR"
  relabel
  if ! start; then
    not_started
    [ -n "$before" ] && [ "$before" != "$DIR" ] && [ -e "$before/.complete" ] || fail "it did not start; see ${JOURNALCTL[*]} -u $UNIT"
    warn "It did not start: going back to $(basename "$before")"
    activate "$before"
    start || fail "$(basename "$before") does not start either; see ${JOURNALCTL[*]} -u $UNIT"
    fail "$NAME does not start here; $(basename "$before") runs again, and nothing was lost"
  fi
  prune
  step "Proving that something arrives"
  [ "$STARTED" = yes ] || after='' # it goes on: what it has delivered until now counts
  if ! prove "$after"; then
    warn "It runs, and is started at every boot; what it has waits on the disk, and nothing is lost." \
      "When that is put right in $CONFIG: $SUDO${SYSTEMCTL[*]} reload telemetry-agent"
    SAID=yes
    exit 1
  fi
  [ "$DRY" = no ] || { say "Nothing was changed."; return; }
  say "Done. It runs as $UNIT, now and $(lasting)."
  summary
}

lasting() { # how long, in words
  if [ "$MINE" = no ] || [ -e "/var/lib/systemd/linger/$(id -un)" ]; then
    printf 'after every boot'
  else
    printf 'while %s is logged in; from every boot on with: loginctl enable-linger (or, as root: loginctl enable-linger %s)' "$(id -un)" "$(id -un)"
  fi
}

summary() {
  [ "$QUIET" = no ] || return 0
  local command=telemetry-agent
  [ -n "$SUDO" ] || command -v telemetry-agent >/dev/null || command=$COMMAND
  "${SYSTEMCTL[@]}" status "$UNIT" --no-pager --lines=0 || :
  cat <<TEXT

  $SUDO$command status      what it does            $SUDO$command ledger    what became of every record
  ${JOURNALCTL[*]} -u telemetry-agent    what it says            $CONFIG    what it is told; then: ${SYSTEMCTL[*]} reload
TEXT
}

roll_back() {
  local back
  foreign
  # One that was interrupted is finished, and not taken back.
  back=$(cat "$BACK" 2>/dev/null || readlink "$PREFIX/previous" || :)
  [ -n "$back" ] && [ -e "$PREFIX/$back/.complete" ] || fail "there is no previous version in $PREFIX"
  SYSTEMD=$(systemctl --version | sed -nE '1s/^systemd ([0-9]+).*/\1/p')
  step "Back from $(readlink "$PREFIX/current") to $back"
  [ "$DRY" = yes ] || { printf %s "$back" >"$BACK.new" && mv -f "$BACK.new" "$BACK"; }
  activate "$PREFIX/$back"
  start || { not_started; rm -f "$BACK"; fail "$back does not start; --rollback once more goes forward again"; }
  [ "$DRY" = no ] || return 0
  say "Done. $("$COMMAND" --version) runs; --rollback goes forward again."
  rm -f "$BACK"
}

uninstall() {
  foreign
  if [ "$PURGE" = yes ] && [ "$YES" = no ] && [ "$DRY" = no ]; then
    [ -t 0 ] || usage "--purge deletes the configuration and all data; --yes says that this is meant"
    case $(asked "Delete $CONFIG_DIR, $STATE with all that waits there, the logs and the user? (yes/no)") in yes) ;; *) usage "nothing was removed";; esac
  fi
  step "Stopping"
  local units
  units=$("${SYSTEMCTL[@]}" list-units --all --plain --no-legend 'telemetry-agent.service' 'telemetry-agent@*.service' 'telemetry-agent*.socket' 2>/dev/null | awk '{print $1}')
  # shellcheck disable=SC2086  # one word each
  [ -z "$units" ] || run "${SYSTEMCTL[@]}" disable --now $units || run "${SYSTEMCTL[@]}" stop $units || :
  step "Removing"
  local wanted
  for wanted in "$UNITS"/*.wants/telemetry-agent*; do remove "$wanted"; done
  remove "$UNITS"/telemetry-agent.service "$UNITS"/telemetry-agent@.service "$UNITS"/telemetry-agent.socket "$UNITS"/telemetry-agent-syslog-{udp,tcp}.socket
  for wanted in "$PREFIX"/*/; do [ -L "${wanted%/}" ] || ! ours "$wanted" || discard "${wanted%/}"; done
  remove "$DISCARDED" "$UNITS"/telemetry-agent*.new "$COMMAND"{,.new} "$PREFIX"/{current,previous}{,.new} "$PENDING" "$BACK"{,.new} "$OURS"
  [ ! -d "$PREFIX" ] || [ "$DRY" = yes ] || rmdir "$(readlink -f "$PREFIX")" 2>/dev/null || warn "    what is left in $PREFIX is not from here, or it is a file system of its own"
  [ ! -L "$PREFIX" ] || [ -e "$PREFIX" ] || remove "$PREFIX"
  if [ "$PURGE" = yes ] && [ "$MINE" = yes ]; then
    remove "$DROP_INS" "$CONFIG_DIR" "$STATE"
  elif [ "$PURGE" = yes ]; then
    remove "$DROP_INS" "$UNITS"/telemetry-agent@.service.d "$UNITS"/telemetry-agent*.socket.d "$CONFIG_DIR" /etc/default/telemetry-agent*
    remove "$STATE" "$STATE"-* /var/log/telemetry-agent /var/log/telemetry-agent-[!i]* /run/telemetry-agent /run/telemetry-agent-[!i]*
    if [ "$(home_of_user)" = "$STATE" ]; then run userdel telemetry-agent || :; fi
    getent passwd telemetry-agent >/dev/null || ! getent group telemetry-agent >/dev/null || run groupdel telemetry-agent || :
  fi
  run "${SYSTEMCTL[@]}" daemon-reload 2>/dev/null || :
  run "${SYSTEMCTL[@]}" reset-failed 'telemetry-agent*' 2>/dev/null || :
  if [ "$PURGE" = yes ]; then
    say "Done. Nothing of it is left."
    remove "$LOG" "$LOCK"
  else
    say "Done. Its configuration$([ "$MINE" = yes ] && echo ' and data' || echo ', data and user') are still there: $CONFIG_DIR, $STATE. --uninstall --purge removes them."
  fi
}

main() {
  arguments "$@"
  WORK=$(mktemp -d -p "$([ -w "$RUN" ] && echo "$RUN" || echo /tmp)" telemetry-agent-install.XXXXXX)
  trap tidy EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
  trap 'exit 141' PIPE
  needs
  if [ "$DRY" = no ]; then
    [ "$MINE" = yes ] || [ "$(id -u)" = 0 ] ||
      fail "it takes root: sudo ./install.sh" "--user installs it for you alone, and takes none; nor does --dry-run, which says what it would do."
    mkdir -p "$(dirname "$LOG")"
    exec 9>"$LOCK"
    flock -n 9 || fail "another install.sh is at work, or what one that was killed had begun; it will be over in a moment"
    # What one that was killed had to leave: the token may be in it, in a folder of the agent's user too.
    [ ! -d "$RUN" ] || find "$RUN" -maxdepth 1 -type d -name 'telemetry-agent-install.??????*' ! -path "$WORK*" -exec rm -rf {} +
    (umask 027 && : >>"$LOG")
    log "install.sh $ACTION, by ${SUDO_USER:-$(id -un)}"
  fi
  take_token
  case $ACTION in
    install | upgrade) install_or_upgrade;;
    rollback) roll_back;;
    uninstall) uninstall;;
  esac
}

main "$@"
