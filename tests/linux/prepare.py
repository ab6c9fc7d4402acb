"""Prepares a real Linux guest: `python tests/linux/prepare.py DIR`.

Fetches the kernel package behind Debian's `linux-image-cloud-amd64`, and builds an initramfs out of the static busybox
and the scripts below. Needs apt-get, apt-cache and dpkg-deb; `lz4` or `zstd` only when the kernel is packed with them.
What it leaves in DIR (outputs that are there already are kept):

    vmlinuz            the bzImage, as packaged
    vmlinux            the ELF kernel out of it (no symbol table), for disassembly
    config             the kernel's build configuration
    initramfs.cpio     the initramfs; `initramfs.cpio.gz` is the same, packed
    modules.cpio       MODULES in /modules, to be put behind the initramfs (Linux unpacks both)
    guest.json         versions, and the line that the script `test` must print

On the kernel's command line `dbgvmm.script=NAME` makes init run /scripts/NAME; without it init prints
`dbgvmm: shell ready` and starts an interactive shell on the console.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from bzimage import PayloadError, gzip_deterministic, vmlinux_of
from cpio import CpioArchive

META_PACKAGE = "linux-image-cloud-amd64"
FORKS = 200
MODULES = ("irqbypass", "tcp_veno")
"""Small ones that need no others."""
DATA_BYTES = 16 << 20
DATA_LINE = "dbgvmm reads the same sixteen mebibytes every time"

INIT = """#!/bin/sh
export PATH=/bin HOME=/ TERM=linux
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
read -r line < /proc/cmdline
script=
for word in $line; do
    case $word in dbgvmm.script=*) script=${word#dbgvmm.script=} ;; esac
done
if [ -z "$script" ]; then
    echo "dbgvmm: shell ready"
    setsid cttyhack sh
elif [ -r "/scripts/$script" ]; then
    . "/scripts/$script"
else
    echo "dbgvmm: no script $script; there are:" /scripts/*
fi
reboot -f
"""

SCRIPTS = {
    "boot": 'echo "dbgvmm: shell ready"\n',
    "test": f"""echo "dbgvmm: shell ready"
forks=0
while [ $forks -lt {FORKS} ]; do
    /bin/true || break
    forks=$((forks + 1))
done
yes "{DATA_LINE}" | head -c {DATA_BYTES} > /tmp/data
sha=$(sha256sum < /tmp/data)
md5=$(md5sum < /tmp/data)
echo "dbgvmm: forks=$forks sum=${{sha%% *}} md5=${{md5%% *}}"
""",
    "symbols": 'echo "dbgvmm: symbols begin"\ncat /proc/kallsyms\necho "dbgvmm: symbols end"\n',
}


class PrepareError(Exception):
    """Something that the person at the keyboard has to put right; the message says what."""


def expected_test_line() -> str:
    """The line that the script `test` prints when the guest computes correctly."""
    line = DATA_LINE.encode() + b"\n"
    data = (line * (DATA_BYTES // len(line) + 1))[:DATA_BYTES]
    sha, md5 = hashlib.sha256(data).hexdigest(), hashlib.md5(data).hexdigest()
    return f"dbgvmm: forks={FORKS} sum={sha} md5={md5}"


def build_initramfs(busybox: bytes, applets: list[str]) -> bytes:
    """A cpio archive with busybox, a link for each of its `applets`, /init and the scripts."""
    archive = CpioArchive()
    for directory in ("bin", "dev", "proc", "sys", "tmp", "scripts"):
        archive.directory(directory)
    archive.character_device("dev/console", 5, 1)
    archive.file("bin/busybox", busybox, 0o755)
    for applet in applets:
        archive.symlink(f"bin/{applet}", "busybox")
    archive.file("init", INIT.encode(), 0o755)
    for name, text in sorted(SCRIPTS.items()):
        archive.file(f"scripts/{name}", text.encode())
    return archive.finish()


def build_modules(contents: dict[str, bytes]) -> bytes:
    """A cpio archive with modules, by name, in /modules."""
    archive = CpioArchive()
    archive.directory("modules")
    for name, content in sorted(contents.items()):
        archive.file(f"modules/{name}.ko", content)
    return archive.finish()


def kernel_package() -> str:
    """The versioned package that META_PACKAGE stands for today."""
    listing = _run(["apt-cache", "depends", META_PACKAGE])
    found = re.search(r"Depends: (linux-image-\S+-cloud-amd64)", listing)
    if found is None:
        raise PrepareError(f"apt-cache knows no dependency of {META_PACKAGE}: run `apt-get update` on a Debian system")
    return found.group(1)


def fetch_kernel(out: Path) -> str:
    """Downloads the kernel package, leaves `vmlinuz`, `config` and `modules.cpio` in `out`, and gives the package's name."""
    package = kernel_package()
    with tempfile.TemporaryDirectory(dir=out) as scratch:
        tree = _download(package, Path(scratch))
        for name, pattern in (("config", "config-*"), ("vmlinuz", "vmlinuz-*")):
            shutil.copyfile(_single(tree / "boot", pattern), out / name)
        modules = {name: _single(tree, f"**/lib/modules/**/{name}.ko").read_bytes() for name in MODULES}
        (out / "modules.cpio").write_bytes(build_modules(modules))
    return package


def fetch_busybox(out: Path) -> tuple[bytes, list[str]]:
    """The static busybox and the names of its applets: the installed one if it is static, else the package's."""
    installed = Path("/bin/busybox")
    if installed.exists() and b"ld-linux" not in installed.read_bytes():
        return _busybox_at(installed)
    with tempfile.TemporaryDirectory(dir=out) as scratch:
        return _busybox_at(_single(_download("busybox-static", Path(scratch)), "**/bin/busybox"))


def prepare(out: Path) -> None:
    """Makes every output in `out` that is not there yet."""
    out.mkdir(parents=True, exist_ok=True)
    record = out / "guest.json"
    facts: dict[str, str] = json.loads(record.read_text()) if record.exists() else {}
    if not ((out / "vmlinuz").exists() and (out / "modules.cpio").exists()):
        facts["kernel"] = fetch_kernel(out)
        (out / "vmlinux").unlink(missing_ok=True)
    if not (out / "vmlinux").exists():
        (out / "vmlinux").write_bytes(vmlinux_of((out / "vmlinuz").read_bytes()))
    recipe = hashlib.sha256(repr((INIT, sorted(SCRIPTS.items()))).encode()).hexdigest()
    plain, packed = out / "initramfs.cpio", out / "initramfs.cpio.gz"
    if not (plain.exists() and packed.exists()) or facts.get("recipe") != recipe:
        archive = build_initramfs(*fetch_busybox(out))
        plain.write_bytes(archive)
        packed.write_bytes(gzip_deterministic(archive))
        facts["recipe"] = recipe
    facts["test_line"] = expected_test_line()
    record.write_text(json.dumps(facts, indent=2, sort_keys=True) + "\n")


def _busybox_at(path: Path) -> tuple[bytes, list[str]]:
    applets = _run([str(path), "--list"]).split()
    return path.read_bytes(), sorted(set(applets) - {"busybox"})


def _download(package: str, scratch: Path) -> Path:
    """Downloads and unpacks `package` into `scratch`; gives the root of the unpacked tree."""
    _run(["apt-get", "download", package], cwd=scratch)
    tree = scratch / "tree"
    _run(["dpkg-deb", "-x", str(_single(scratch, "*.deb")), str(tree)])
    return tree


def _single(directory: Path, pattern: str) -> Path:
    found = sorted(directory.glob(pattern))
    if len(found) != 1:
        raise PrepareError(f"expected one {pattern} in {directory}, found {len(found)}")
    return found[0]


def _run(command: list[str], cwd: Path | None = None) -> str:
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise PrepareError(f"`{command[0]}` is not installed; this script needs a Debian system") from None
    if done.returncode != 0:
        raise PrepareError(f"`{' '.join(command)}` failed: {done.stderr.strip()}")
    return done.stdout


def main() -> int:
    """The command line. Returns the exit status."""
    parser = argparse.ArgumentParser(description="Prepare a Linux kernel and initramfs as a guest.")
    parser.add_argument("directory", type=Path, help="where the outputs go; those already there are kept")
    out: Path = parser.parse_args().directory
    try:
        prepare(out)
    except (PrepareError, PayloadError) as error:
        print(f"prepare: {error}", file=sys.stderr)
        return 1
    for path in sorted(path for path in out.iterdir() if path.is_file()):
        print(f"{path.stat().st_size:>12,}  {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
