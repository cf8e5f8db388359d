# Sourced by the setup scripts: makes sure that Debian packages are installed.

# need_packages PACKAGE...: installs what is missing, as root or with sudo; otherwise says what to
# install and exits.
need_packages() {
  if ! command -v dpkg-query >/dev/null 2>&1; then
    command -v cmake >/dev/null 2>&1 && return 0  # not Debian: CMake will say what is missing
    echo "This is not a Debian system: install a C++20 compiler, CMake 3.24, Ninja and what Debian calls: $*" >&2
    exit 2
  fi
  missing=""
  for package in "$@"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing="$missing $package"
  done
  [ -n "$missing" ] || return 0
  if [ "$(id -u)" = 0 ]; then
    sudo=""
  elif command -v sudo >/dev/null 2>&1; then
    sudo=sudo
  else
    echo "Packages are missing and this user may not install them. As root: apt-get install$missing" >&2
    exit 2
  fi
  echo "installing$missing"
  export DEBIAN_FRONTEND=noninteractive
  log=$(mktemp)
  # shellcheck disable=SC2086
  if ! { $sudo apt-get update -q && $sudo apt-get install -q -y --no-install-recommends $missing; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    echo "could not install$missing" >&2
    rm -f "$log"
    exit 2
  fi
  rm -f "$log"
}

# What the library, the toolkit and the program are built with.
build_packages="g++ make cmake ninja-build libeigen3-dev nlohmann-json3-dev libonig-dev libutf8proc-dev libcli11-dev libfmt-dev"
# What the tests need in addition.
test_packages="catch2 doxygen libbenchmark-dev python3-numpy"
