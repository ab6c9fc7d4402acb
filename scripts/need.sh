#!/usr/bin/env bash
# Sees to it that Debian packages are there: `scripts/need.sh PACKAGE...`. With all of them installed it does nothing, and
# needs no network. As root it installs what is missing; anybody else is told what to install.
set -euo pipefail

# What a package is needed for, in case it came from somewhere else than a package.
works() {
    case $1 in
        python3-venv) python3 -c 'import venv, ensurepip' ;;
        gcc) command -v gcc ;;
        libc6-dev) echo '#include <stdio.h>' | gcc -E - ;;
        binutils) command -v ld && command -v objcopy && command -v nm ;;
        qemu-system-x86) command -v qemu-system-x86_64 ;;
        busybox-static) test -x /bin/busybox && ! ldd /bin/busybox ;;
        dpkg) command -v dpkg-deb ;;
        graphviz) command -v dot ;;
        *) command -v "$1" ;;
    esac > /dev/null 2>&1
}

missing=()
for package in "$@"; do
    works "$package" || missing+=("$package")
done

if [ ${#missing[@]} -gt 0 ]; then
    if ! command -v apt-get > /dev/null; then
        echo "need: this machine has no apt-get. Install what these Debian packages have: ${missing[*]}" >&2
        exit 1
    fi
    if [ "$(id -u)" -ne 0 ]; then
        echo "need: packages are missing. Run: sudo apt-get install ${missing[*]}" >&2
        exit 1
    fi
    export DEBIAN_FRONTEND=noninteractive
    # An unreachable archive of something else must not stop what the others can give.
    apt-get -q update || echo "need: apt-get update had errors; going on with what it has" >&2
    apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends "${missing[@]}"
    for package in "${missing[@]}"; do
        works "$package" || { echo "need: $package is installed, and still does not do what it is needed for" >&2; exit 1; }
    done
fi

python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "need: Python 3.11 or newer; python3 is $(python3 --version)" >&2
    exit 1
}
