"""What this machine has for the study, and what to type where something is missing."""

import os
import platform
import shutil
import sys
from collections import Counter
from importlib import metadata
from pathlib import Path

import psutil
import torch
import yaml
from packaging.requirements import Requirement

from facelib.models.registry import FOUNDATIONS, cached_folder
from facelib.paths import REPO, data_root, runs_root
from facelib.runs.folder import list_runs

DISK_GB = 2.0  # rendered faces, three smoke runs and the site take less than 1 GB
MEMORY_GB = 4.0


def check() -> dict:
    """Look at everything; nothing is changed.

    Returns:
        JSON-able: `python`, `packages`, `devices`, `machine` (cores, memory), `disk`, `data`,
        `weights` (of foundation models), `runs`, and `problems`: a list of {`problem`, `next`},
        the second the command to type.
    """
    memory = psutil.virtual_memory()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cards = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    report = {
        "python": {"version": platform.python_version(), "executable": sys.executable},
        "packages": check_packages(),
        "devices": {
            "names": ["cpu", *(f"{c.name}, {c.total_memory / 1e9:.0f} GB" for c in cards)],
            "cuda": torch.version.cuda if cards else None,
        },
        "machine": {
            "cores": cores,
            "memory_gb": round(memory.total / 1e9, 1),
            "memory_free_gb": round(memory.available / 1e9, 1),
        },
        "disk": {
            what: {"path": str(path), "free_gb": round(_free_gb(path), 1)}
            for what, path in (("data", data_root()), ("runs", runs_root()))
        },
        "data": [_holdings(folder) for folder in sorted(data_root().glob("*")) if _is_set(folder)],
        "weights": {
            name: "in the hub cache" if cached_folder(name) else "not on this machine (optional)"
            for name, entry in FOUNDATIONS.items()
            if entry.repo
        },
        "runs": [
            {"name": r.name, "state": r.state} | {k: r.status.get(k, 0) for k in ("step", "steps")}
            for r in list_runs()
        ],
    }
    problems = [{"problem": what, "next": command} for what, command in _problems(report)]
    return {**report, "problems": problems}


def check_packages() -> dict:
    """The packages of environment.yml against those that are installed."""
    blocks = yaml.safe_load((REPO / "environment.yml").read_text())["dependencies"]
    lines = next(block["pip"] for block in blocks if isinstance(block, dict))
    pins = [Requirement(line) for line in lines if "==" in line]
    pins = [pin for pin in pins if pin.marker is None or pin.marker.evaluate()]
    mismatches = []
    for pin in pins:
        try:
            version = metadata.version(pin.name)
        except metadata.PackageNotFoundError:
            mismatches.append(f"{pin.name} is missing (wanted {pin.specifier})")
            continue
        if not pin.specifier.contains(version.partition("+")[0], prereleases=True):
            mismatches.append(f"{pin.name} is {version} (wanted {pin.specifier})")
    return {"wanted": len(pins), "right": len(pins) - len(mismatches), "mismatches": mismatches}


def _free_gb(path: Path) -> float:
    return shutil.disk_usage(next(p for p in (path, *path.parents) if p.exists())).free / 1e9


def _is_set(folder: Path) -> bool:
    return (folder / "train.rec").is_file() or any(folder.glob("*.bin"))


def _holdings(folder: Path) -> dict:
    """Name and content of a folder with records or benchmarks; does an index lack?"""
    records = folder / "train.rec"
    holds = [f"train.rec ({records.stat().st_size / 1e6:.0f} MB)"] if records.is_file() else []
    holds += sorted(path.name for path in folder.glob("*.bin"))
    lacks = records.is_file() and not records.with_suffix(".idx").is_file()
    return {"name": folder.name, "path": str(folder), "holds": ", ".join(holds), "no_index": lacks}


def _problems(report: dict):
    """(problem, next command) of everything that stands in the way."""
    if sys.version_info[:2] != (3, 11):
        yield f"Python {platform.python_version()}, wanted 3.11", "make setup"
    for sentence in report["packages"]["mismatches"]:
        yield sentence, "make setup, or in conda: conda env update -f environment.yml"
    if Path("/proc/driver/nvidia/version").exists() and not report["devices"]["cuda"]:
        yield f"an NVIDIA driver is here, but torch {torch.__version__} sees no GPU", "nvidia-smi"
    if report["machine"]["memory_free_gb"] < MEMORY_GB:
        yield f"less than {MEMORY_GB:.0f} GB of memory are free", "close other programs"
    for what, disk in report["disk"].items():
        elsewhere = f"export FACELIB_{what.upper()}=/a/folder/on/a/larger/disk"
        if disk["free_gb"] < DISK_GB:
            yield (
                f"{disk['free_gb']} GB free for {what} at {disk['path']}, {DISK_GB:.0f} GB wanted",
                elsewhere,
            )
        there = next(p for p in (Path(disk["path"]), *Path(disk["path"]).parents) if p.exists())
        if not os.access(there, os.W_OK):
            yield f"{there} cannot be written", elsewhere
    for entry in report["data"]:
        if entry["no_index"]:
            command = f"python -m facelib inspect {entry['path']} --rebuild-idx"
            yield f"{entry['path']}/train.rec has no train.idx beside it", command
    for run in report["runs"]:
        if run["state"] in ("died", "failed"):
            command = f"python -m facelib train --run {run['name']}    (from its checkpoint)"
            yield f"run {run['name']} {run['state']} at step {run['step']}", command


def render(report: dict) -> str:
    """The report as text for a terminal, problems last."""
    machine, packages = report["machine"], report["packages"]
    states = Counter(run["state"] for run in report["runs"])
    lines = [
        ("python", f"{report['python']['version']} at {report['python']['executable']}"),
        ("packages", f"{packages['right']} of {packages['wanted']} as pinned in environment.yml"),
        ("devices", "; ".join(report["devices"]["names"])),
        ("machine", f"{machine['cores']} cores, {machine['memory_gb']} GB of memory, "
                    f"{machine['memory_free_gb']} GB free"),
        *(("disk", f"{d['free_gb']} GB free for {what} at {d['path']}")
          for what, d in report["disk"].items()),
        *(("data", f"{entry['name']}: {entry['holds']}") for entry in report["data"]),
        *(("weights", f"{name}: {where}") for name, where in report["weights"].items()),
        ("runs", ", ".join(f"{n} {state}" for state, n in states.items()) or "none yet"),
        *(("problem", f"{p['problem']}\n          next: {p['next']}") for p in report["problems"]),
    ]  # fmt: skip
    if not report["problems"]:
        lines.append(("all well", "next: make study"))
    return "\n".join(f"{name:<9} {text}" for name, text in lines)
