#!/usr/bin/env bash
# build.sh: the agent as a .deb and a .rpm, in dist/.        make packages
#
#   packaging/build.sh [--offline DIR] [--python FILE] [deb] [rpm]
#
# Both hold what install.sh makes: /opt/telemetry-agent/<version>, the link current to it, and the units. They are for
# the Python that builds them (its compiled modules are in them) and for this architecture; the compiled files are made
# where they are installed. It takes dpkg-deb for the one and rpmbuild for the other; none of it takes root.
set -euo pipefail
umask 022
export LC_ALL=C.UTF-8

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
PREFIX=/opt/telemetry-agent
OUT=$HERE/dist
PYTHON=/usr/bin/python3 OFFLINE='' KINDS=()

fail() { printf 'build.sh: %s\n' "$*" >&2; exit 1; }

while [ $# -gt 0 ]; do
  case $1 in
    --offline) OFFLINE=$2; shift 2;;
    --python) PYTHON=$2; shift 2;;
    --out) OUT=$2; shift 2;;
    deb | rpm) KINDS+=("$1"); shift;;
    *) fail "'$1' is neither an option nor deb or rpm";;
  esac
done
[ "${#KINDS[@]}" -gt 0 ] || KINDS=(deb rpm)

"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "$PYTHON is older than 3.11; --python FILE names another"
SERIES=$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
VERSION=$(sed -nE 's/^__version__ = "(.*)"/\1/p' "$HERE/agent/__init__.py")
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$HERE" log -1 --format=%ct 2>/dev/null || date +%s)}
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
ROOT=$WORK/root
DIR=$ROOT$PREFIX/$VERSION

pip() {
  local where=()
  [ -z "$OFFLINE" ] || where=(PIP_NO_INDEX=1 "PIP_FIND_LINKS=$OFFLINE")
  env PIP_DISABLE_PIP_VERSION_CHECK=1 ${where[@]+"${where[@]}"} "$WORK/tools/bin/python" "${PIP[@]}" -q "$@"
}

# What is installed, file by file as it will lie there.
stage() {
  "$PYTHON" -m venv --without-pip "$WORK/tools"
  if "$PYTHON" -c 'import ensurepip' 2>/dev/null; then
    "$WORK/tools/bin/python" -m ensurepip >/dev/null
    PIP=(-m pip)
  else
    PIP=("$(find "${OFFLINE:-/nowhere}" -name 'pip-*.whl' 2>/dev/null | sort -V | tail -n 1)/pip")
    [ -f "${PIP[0]%/pip}" ] || fail "$PYTHON has no ensurepip: apt install python3-venv, or pip-*.whl in --offline DIR"
  fi
  mkdir -p "$WORK/src" "$WORK/wheel" "$DIR"
  tar -C "$HERE" --exclude=__pycache__ -cf - agent pyproject.toml README.md LICENSE | tar -C "$WORK/src" -xf -
  pip wheel --no-deps -w "$WORK/wheel" "$WORK/src"
  "$PYTHON" -m venv --without-pip "$DIR"
  pip --python "$DIR/bin/python" install --no-compile --no-warn-script-location "$WORK"/wheel/telemetry_agent-*.whl
  # The paths of this folder become those of the package; of bin, python and the command are all there is to keep.
  find "$DIR/bin" -mindepth 1 ! -name 'python*' ! -name telemetry-agent -delete
  ln -sfn "/usr/bin/python$SERIES" "$DIR/bin/python$SERIES"
  ln -sfn "python$SERIES" "$DIR/bin/python"
  ln -sfn "python$SERIES" "$DIR/bin/python3"
  sed -i "1s|.*|#!$PREFIX/$VERSION/bin/python|" "$DIR/bin/telemetry-agent"
  printf 'home = /usr/bin\ninclude-system-site-packages = false\nversion = %s\n' "$SERIES" >"$DIR/pyvenv.cfg"
  rm -rf "$DIR/include"
  find "$DIR" -name __pycache__ -prune -exec rm -rf {} +
  find "$DIR" \( -name direct_url.json -o -name '*.pyx' -o -name '*.pxd' -o -name '*.c' -o -name '*.h' -o -name '.gitignore' \) -delete
  find "$DIR" -name '*.so' -exec strip --strip-unneeded {} + 2>/dev/null || :
  find "$DIR/lib" -type f -perm /111 ! -name '*.so' -exec chmod a-x {} +
  ln -sfn "$VERSION" "$ROOT$PREFIX/current"
  mkdir -p "$DIR/packaging"
  cp -R "$HERE/packaging/systemd" "$DIR/packaging/"
  install -m 755 "$HERE/packaging/scripts/after-install" "$HERE/packaging/scripts/before-remove" "$DIR/packaging/"
  install -D -m 755 "$HERE/packaging/scripts/telemetry-agent" "$ROOT/usr/bin/telemetry-agent"
  install -D -m 644 -t "$ROOT/usr/lib/systemd/system" "$HERE"/packaging/systemd/telemetry-agent*.{service,socket}
  install -D -m 644 -t "$ROOT/usr/lib/systemd/user" "$HERE/packaging/systemd/user/telemetry-agent.service"
  sed -i "s|%h/.local/share/telemetry-agent/current|$PREFIX/current|" "$ROOT/usr/lib/systemd/user/telemetry-agent.service"
  install -D -m 644 "$HERE/packaging/sysusers.d/telemetry-agent.conf" "$ROOT/usr/lib/sysusers.d/telemetry-agent.conf"
  install -D -m 644 "$HERE/packaging/tmpfiles.d/telemetry-agent.conf" "$ROOT/usr/lib/tmpfiles.d/telemetry-agent.conf"
  install -D -m 644 "$HERE/packaging/config.toml" "$ROOT/etc/telemetry-agent/config.toml"
  local documents=$ROOT/usr/share/doc/telemetry-agent
  install -D -m 644 -t "$documents/examples" "$HERE"/config/*.toml
  install -D -m 644 -t "$documents" "$HERE/README.md"
  find "$ROOT" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
}

build_deb() {
  command -v dpkg-deb >/dev/null || fail "dpkg-deb is not here; on a machine without it: packaging/build.sh rpm"
  local root=$WORK/deb architecture documents
  architecture=$(dpkg --print-architecture)
  cp -a "$ROOT" "$root"
  documents=$root/usr/share/doc/telemetry-agent
  install -m 644 "$HERE/packaging/debian/copyright" "$documents/copyright"
  gzip -9n <"$HERE/CHANGELOG.md" >"$documents/changelog.gz"
  sed "s/@VERSION@/$VERSION/; s/@DATE@/$(date -uRd "@$SOURCE_DATE_EPOCH")/" "$HERE/packaging/debian/changelog" | gzip -9n >"$documents/changelog.Debian.gz"
  install -D -m 644 "$HERE/packaging/debian/lintian-overrides" "$root/usr/share/lintian/overrides/telemetry-agent"
  install -D -m 644 -t "$root/usr/share/man/man8" "$WORK/telemetry-agent.8.gz"
  mkdir -p "$root/DEBIAN"
  sed -e "s/@VERSION@/$VERSION/; s/@ARCHITECTURE@/$architecture/; s/@SERIES@/$SERIES/" \
    -e "s/@SIZE@/$(du -sk --exclude=DEBIAN "$root" | cut -f1)/" "$HERE/packaging/debian/control" >"$root/DEBIAN/control"
  echo /etc/telemetry-agent/config.toml >"$root/DEBIAN/conffiles"
  (cd "$root" && find . -path ./DEBIAN -prune -o -path ./etc -prune -o -type f -print0 | sort -z | xargs -0 md5sum | sed 's|  \./|  |') >"$root/DEBIAN/md5sums"
  local script
  sed -n '/^rm /,$s/^/  /p' "$HERE/packaging/scripts/after-remove" >"$WORK/purge"
  for script in preinst postinst prerm postrm; do
    sed -e "s/@VERSION@/$VERSION/" -e "/^@PURGE@/{r $WORK/purge" -e 'd}' "$HERE/packaging/debian/$script" >"$root/DEBIAN/$script"
    chmod 755 "$root/DEBIAN/$script"
  done
  dpkg-deb --root-owner-group -Zxz --build "$root" "$OUT/telemetry-agent_$VERSION-1_$architecture.deb" >/dev/null
}

build_rpm() {
  command -v rpmbuild >/dev/null || fail "rpmbuild is not here: apt install rpm, or dnf install rpm-build"
  local root=$WORK/rpm
  cp -a "$ROOT" "$root"
  install -D -m 644 -t "$root/usr/share/man/man8" "$WORK/telemetry-agent.8.gz"
  install -D -m 644 -t "$root/usr/share/licenses/telemetry-agent" "$HERE/LICENSE"
  rpmbuild -bb --quiet --define "_topdir $WORK/rpmbuild" --define "_rpmdir $OUT" --define '_build_name_fmt %%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm' \
    --define "version $VERSION" --define "series $SERIES" --define "staged $root" --define '_build_id_links none' \
    --define 'use_source_date_epoch_as_buildtime 1' --define 'clamp_mtime_to_source_date_epoch 1' "$HERE/packaging/rpm/telemetry-agent.spec"
}

mkdir -p "$OUT"
stage
sed "s/@VERSION@/$VERSION/" "$HERE/packaging/telemetry-agent.8" | gzip -9n >"$WORK/telemetry-agent.8.gz"
for kind in "${KINDS[@]}"; do "build_$kind"; done
ls -l "$OUT"/*"$VERSION"*
