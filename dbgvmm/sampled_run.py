"""What the command line does around a run that is sampled: start the sampler, write the profile or the report at the end."""

from __future__ import annotations

import argparse
from pathlib import Path

from dbgvmm.machine import Machine


class SampledRunError(Exception):
    """A file's name, a period or the writing of a file is wrong. The message is one line."""


def check_sampling(options: argparse.Namespace) -> None:
    """Find out before a long run whether its results can be written. Raises SampledRunError."""
    if options.sample is not None:
        from dbgvmm.profile.export import UnknownFormat, format_of

        try:
            format_of(options.sample)
        except UnknownFormat as error:
            raise SampledRunError(f"--sample {str(error).replace(', or give --format', '')}") from error
        _write("--sample", options.sample, b"")
    if options.action == "report":
        _write("--output", options.output, b"")


def start_sampling(options: argparse.Namespace, machine: Machine) -> None:
    """Start the sampler if the options want it. Raises SampledRunError."""
    if options.sample is None and options.action != "report":
        return
    from dbgvmm.profile.sampling import DEFAULT_HZ, period_of

    period = options.sample_every or period_of(DEFAULT_HZ, machine.config.ns_per_insn)
    try:
        machine.sampler.start(period)
    except ValueError as error:
        raise SampledRunError(f"--sample-every: {error}") from error


def write_sampling(options: argparse.Namespace, machine: Machine) -> list[str]:
    """Write what the options want; a line about each file. Raises SampledRunError."""
    said = []
    if options.sample is not None:
        from dbgvmm.profile.export import exported, format_of
        from dbgvmm.profile.profile import machine_profile

        profile = machine_profile(machine)
        _write("--sample", options.sample, exported(profile, format_of(options.sample), options.kernel.name))
        said.append(f"{profile.samples:,} samples are in {options.sample}")
    if options.action == "report":
        from dbgvmm.report import machine_report

        _write("--output", options.output, machine_report(machine))
        said.append(f"the report is in {options.output}")
    return said


def _write(option: str, path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise SampledRunError(f"{option} {path}: {error.strerror}") from error


__all__ = ["SampledRunError", "check_sampling", "start_sampling", "write_sampling"]
