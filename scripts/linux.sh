#!/usr/bin/env bash
# Prepares the Linux guest of the tests and benchmarks: `scripts/linux.sh DIR`. Debian's kernel is downloaded (not
# installed); with everything there already it does nothing, and needs no network.
set -euo pipefail
directory=$1
here=$(cd "$(dirname "$0")/.." && pwd)

if [ ! -s "$directory/vmlinuz" ] && ! apt-cache show linux-image-cloud-amd64 > /dev/null 2>&1; then
    # No package lists: a fresh container has none.
    if [ "$(id -u)" -ne 0 ]; then
        echo "linux: apt knows no linux-image-cloud-amd64. Run: sudo apt-get update (the kernel comes from Debian)" >&2
        exit 1
    fi
    apt-get -q update || true
fi
exec python3 "$here/tests/linux/prepare.py" "$directory"
