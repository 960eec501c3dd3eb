"""What this machine has for the study, and what to type where something is missing."""

import os
import platform
import shutil
import sys
from collections import Counter
from importlib import metadata
from pathlib import Path
from shlex import quote

import psutil
import torch
import yaml
from packaging.requirements import Requirement

from facelib.locks import bf16_units, cores
from facelib.paths import REPO, data_root, runs_root
from facelib.runs.folder import list_runs
from facelib.runs.origin import of_other_code

DISK_GB = 2.0  # rendered faces, three smoke runs and the site take less than 1 GB
MEMORY_GB = 4.0
INSTALL = "make setup, or in conda: conda env update -f environment.yml"


def check() -> dict:
    """Look at everything; nothing is changed.

    Returns:
        JSON-able: `python`, `packages`, `devices`, `machine`, `disk`, `data`, `runs`, and
        `problems`: a list of {`problem`, `next`}, the second the command to type.
    """
    memory = psutil.virtual_memory()
    cards = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    names = ["cpu", *(f"{card.name}, {card.total_memory / 1e9:.0f} GB" for card in cards)]
    report = {
        "python": {"version": platform.python_version(), "executable": sys.executable},
        "packages": check_packages(),
        "devices": {"names": names, "cuda": torch.version.cuda if cards else None},
        "machine": {"cores": cores(), "bf16": bf16_units(),
                    "memory_gb": round(memory.total / 1e9, 1),
                    "memory_free_gb": round(memory.available / 1e9, 1)},
        "disk": {"data": _disk(data_root()), "runs": _disk(runs_root())},
        "data": [found for folder in sorted(data_root().glob("*")) if (found := _holdings(folder))],
        "runs": [{"name": run.name, "state": run.state, "step": run.status.get("step", 0),
                  "steps": run.status.get("steps", 0), "other_code": of_other_code(run)}
                 for run in list_runs()],
    }  # fmt: skip
    problems = [{"problem": what, "next": command} for what, command in _problems(report)]
    return {**report, "problems": problems}


def check_packages() -> dict:
    """Python and the packages of environment.yml against those that are installed."""
    blocks = yaml.safe_load((REPO / "environment.yml").read_text())["dependencies"]
    lines = next(block["pip"] for block in blocks if isinstance(block, dict))
    pins = [Requirement(line) for line in lines if "==" in line]
    pins = [pin for pin in pins if pin.marker is None or pin.marker.evaluate()]
    found = {pin: _version(pin.name) for pin in pins}
    wrong = [f"{pin.name} is {version or 'missing'} (wanted {pin.specifier})"
             for pin, version in found.items()
             if not (version and pin.specifier.contains(version, prereleases=True))]  # fmt: skip
    here = platform.python_version()
    python = [] if sys.version_info[:2] == (3, 11) else [f"Python is {here} (wanted 3.11)"]
    return {"wanted": len(pins), "right": len(pins) - len(wrong), "mismatches": python + wrong}


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _disk(path: Path) -> dict:
    there = next(p for p in (path, *path.parents) if p.exists())
    free = round(shutil.disk_usage(there).free / 1e9, 1)
    return {"path": str(path), "free_gb": free, "writable": os.access(there, os.W_OK)}


def _holdings(folder: Path) -> dict | None:
    """Records and benchmarks of a folder, and whether it lacks an index; None without any."""
    files = sorted(path.name for path in (*folder.glob("train.rec"), *folder.glob("*.bin")))
    lacks = "train.rec" in files and not (folder / "train.idx").is_file()
    found = {"name": folder.name, "path": str(folder), "holds": ", ".join(files), "no_index": lacks}
    return found if files else None


def _problems(report: dict):
    """(problem, next command) of everything that stands in the way."""
    yield from ((sentence, INSTALL) for sentence in report["packages"]["mismatches"])
    if Path("/proc/driver/nvidia/version").exists() and not report["devices"]["cuda"]:
        yield f"an NVIDIA driver is here, but torch {torch.__version__} sees no GPU", "nvidia-smi"
    if report["machine"]["memory_free_gb"] < MEMORY_GB:
        yield f"less than {MEMORY_GB:.0f} GB of memory are free", "close other programs"
    for what, disk in report["disk"].items():
        elsewhere = f"export FACELIB_{what.upper()}=/a/folder/on/a/larger/disk"
        if disk["free_gb"] < DISK_GB:
            yield f"{disk['free_gb']} GB free at {disk['path']}, wanted {DISK_GB}", elsewhere
        if not disk["writable"]:
            yield f"{disk['path']} cannot be written", elsewhere
    for entry in (entry for entry in report["data"] if entry["no_index"]):
        command = f"python -m facelib inspect {quote(entry['path'])} --rebuild-idx"
        yield f"{entry['path']}/train.rec has no train.idx beside it", command
    for run in (run for run in report["runs"] if run["state"] in ("died", "failed")):
        command = f"python -m facelib train --run {quote(run['name'])}    (from its checkpoint)"
        yield f"run {run['name']} {run['state']} at step {run['step']}", command


def render(report: dict) -> str:
    """The report as text for a terminal, problems last."""
    machine, packages = report["machine"], report["packages"]
    states = Counter(run["state"] for run in report["runs"])
    lines = [
        ("python", f"{report['python']['version']} at {report['python']['executable']}"),
        ("packages", f"{packages['right']} of {packages['wanted']} as pinned in environment.yml"),
        ("devices", "; ".join(report["devices"]["names"])),
        ("machine", f"{machine['cores']} cores, {machine['memory_free_gb']} of "
                    f"{machine['memory_gb']} GB of memory free"),
        ("bf16", f"precision=bf16 on the CPU: {', '.join(machine['bf16']) or 'no, not here'}"),
        *(("disk", f"{disk['free_gb']} GB free for {what} at {disk['path']}")
          for what, disk in report["disk"].items()),
        *(("data", f"{entry['name']}: {entry['holds']}") for entry in report["data"]),
        ("runs", ", ".join(f"{n} {state}" for state, n in states.items()) or "none yet"),
        *([("runs", f"{other} were trained by other code than this: their figures may differ")]
          if (other := sum(run["other_code"] for run in report["runs"])) else []),
        *(("running", f"{run['name']}, step {run['step']} of {run['steps']}")
          for run in report["runs"] if run["state"] == "running"),
        *(("problem", f"{p['problem']}\n          next: {p['next']}") for p in report["problems"]),
    ]  # fmt: skip
    if not report["problems"]:
        lines.append(("all well", "next: make study"))
    return "\n".join(f"{name:<9} {text}" for name, text in lines)
