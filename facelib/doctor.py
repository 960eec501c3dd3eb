"""What this machine has for the study, and what to type where something is missing."""

import os
import platform
import shutil
import sys
from importlib import metadata
from pathlib import Path

from facelib.paths import data_root, runs_root
from facelib.setup_env import PYTHON, SetupError, applies, find_mismatches, read_requirements

DISK_GB = 2.0  # rendered faces, three smoke runs and the site take less than 1 GB
MEMORY_GB = 4.0


def check() -> dict:
    """Look at everything; nothing is changed.

    Returns:
        JSON-able: `python`, `packages`, `devices`, `machine` (cores, memory), `disk`, `data`,
        `weights` (of foundation models), `runs`, and `problems`: a list of {`problem`, `next`},
        the second the command to type.
    """
    problems: list[dict[str, str]] = []
    report = {
        "python": _check_python(problems),
        "packages": _check_packages(problems),
        "devices": _check_devices(problems),
        "machine": _check_machine(problems),
        "disk": _check_disk(problems),
        "data": _check_data(problems),
        "weights": _check_weights(),
        "runs": _check_runs(problems),
    }
    return {**report, "problems": problems}


def render(report: dict) -> str:
    """The report as text for a terminal, problems last."""
    python, machine, packages = report["python"], report["machine"], report["packages"]
    devices = ", ".join(report["devices"]["names"]) or "torch is missing"
    lines = [
        f"python    {python['version']} at {python['executable']}",
        f"packages  {packages['right']} of {packages['wanted']} as pinned in environment.yml",
        f"devices   {devices}",
        f"machine   {machine['cores']} cores, {machine['memory_gb']:.1f} GB of memory, "
        f"{machine['memory_free_gb']:.1f} GB free",
    ]
    lines += [
        f"disk      {disk['free_gb']:.1f} GB free for {what} at {disk['path']}"
        for what, disk in report["disk"].items()
    ]
    lines += [f"data      {entry['name']}: {entry['holds']}" for entry in report["data"]["sets"]]
    if not report["data"]["sets"]:
        lines.append("data      none yet: the study renders its faces on first use")
    lines += [f"weights   {name}: {where}" for name, where in report["weights"].items()]
    states: dict[str, int] = {}
    for run in report["runs"]:
        states[run["state"]] = states.get(run["state"], 0) + 1
    lines.append(
        f"runs      {', '.join(f'{n} {state}' for state, n in states.items()) or 'none yet'}"
    )
    lines += [
        f"          {run['name']} is running, step {run['step']} of {run['steps']}"
        for run in report["runs"]
        if run["state"] == "running"
    ]
    for entry in report["problems"]:
        lines += [f"problem   {entry['problem']}", f"          next: {entry['next']}"]
    if not report["problems"]:
        lines.append("all well  next: make study")
    return "\n".join(lines)


def _check_python(problems: list) -> dict:
    if sys.version_info[:2] != PYTHON:
        _add(problems, f"Python {platform.python_version()}, wanted 3.11", "make setup")
    return {"version": platform.python_version(), "executable": sys.executable}


def _check_packages(problems: list) -> dict:
    """Installed versions against environment.yml's."""
    try:
        wanted = [r for r in read_requirements() if applies(r.marker)]
    except SetupError as error:
        _add(problems, str(error), "git checkout environment.yml")
        wanted = []
    installed = {d.metadata["Name"]: d.version for d in metadata.distributions()}
    mismatches = find_mismatches(installed, wanted)
    for sentence in mismatches:
        _add(problems, sentence, "make setup, or in conda: conda env update -f environment.yml")
    return {
        "wanted": len(wanted),
        "right": len(wanted) - len(mismatches),
        "mismatches": mismatches,
    }


def _check_devices(problems: list) -> dict:
    try:
        import torch
    except ImportError as error:
        _add(problems, f"torch cannot be imported ({error})", "make setup")
        return {"names": [], "cuda": None}
    names = [f"cpu ({torch.get_num_threads()} threads)"]
    for index in range(torch.cuda.device_count()):
        found = torch.cuda.get_device_properties(index)
        names.append(f"cuda:{index} {found.name}, {found.total_memory / 1e9:.0f} GB")
    if Path("/proc/driver/nvidia/version").exists() and not torch.cuda.is_available():
        _add(
            problems,
            f"an NVIDIA driver is here, but torch {torch.__version__} sees no GPU",
            "nvidia-smi    (a driver too old for CUDA "
            f"{torch.version.cuda}, or CUDA_VISIBLE_DEVICES is empty)",
        )
    return {"names": names, "cuda": torch.version.cuda if torch.cuda.is_available() else None}


def _check_machine(problems: list) -> dict:
    page = os.sysconf("SC_PAGE_SIZE")
    total = os.sysconf("SC_PHYS_PAGES") * page / 1e9
    free = _free_memory_gb(total)
    if free < MEMORY_GB:
        _add(
            problems,
            f"{free:.1f} GB of memory free, {MEMORY_GB:.0f} GB wanted",
            "close other programs, or use a larger machine",
        )
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"cores": cores, "memory_gb": round(total, 1), "memory_free_gb": round(free, 1)}


def _free_memory_gb(total: float) -> float:
    """MemAvailable on Linux; elsewhere the total, since macOS has no such figure in a file."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return total
    return next((int(x.split()[1]) / 1e6 for x in lines if x.startswith("MemAvailable")), total)


def _check_disk(problems: list) -> dict:
    report = {}
    for what, path in (("data", data_root()), ("runs", runs_root())):
        there = next(p for p in (path, *path.parents) if p.exists())
        free = shutil.disk_usage(there).free / 1e9
        if free < DISK_GB:
            _add(
                problems,
                f"{free:.1f} GB free for {what} at {path}, {DISK_GB:.0f} GB wanted",
                f"export FACELIB_{what.upper()}=/a/folder/on/a/larger/disk",
            )
        if not os.access(there, os.W_OK):
            _add(problems, f"{there} cannot be written", f"export FACELIB_{what.upper()}=...")
        report[what] = {"path": str(path), "free_gb": round(free, 1)}
    return report


def _check_data(problems: list) -> dict:
    """Folders with records or benchmarks in the data root, and what is in them."""
    sets = []
    for folder in sorted(p for p in data_root().glob("*") if p.is_dir()):
        bins = sorted(p.name for p in folder.glob("*.bin"))
        records = folder / "train.rec"
        holds = [f"train.rec ({records.stat().st_size / 1e6:.0f} MB)"] if records.exists() else []
        if not holds and not bins:
            continue
        sets.append({"name": folder.name, "path": str(folder), "holds": ", ".join(holds + bins)})
        if records.exists() and not records.with_suffix(".idx").exists():
            _add(
                problems,
                f"{records} has no train.idx beside it",
                f"python -m facelib inspect {folder}",
            )
    return {"path": str(data_root()), "sets": sets}


def _check_weights() -> dict[str, str]:
    """Foundation models by name: in the hub cache, or not on this machine. None is a problem."""
    try:
        from facelib.models.foundation import FOUNDATIONS, cached_folder

        return {
            name: "in the hub cache" if cached_folder(name) else "not on this machine (optional)"
            for name, entry in FOUNDATIONS.items()
            if entry.repo
        }
    except ImportError:  # a missing package is reported above
        return {}


def _check_runs(problems: list) -> list[dict]:
    """Every run with its state; one that was killed is a problem with a resume command."""
    from facelib.runs.folder import list_runs

    found = []
    for run in list_runs():
        status, state = run.status, run.state
        steps = status.get("steps", "?")
        found.append(
            {"name": run.name, "state": state, "step": status.get("step", 0), "steps": steps}
        )
        if state in ("died", "failed"):
            _add(
                problems,
                f"run {run.name} {state} at step {status.get('step', 0)} of {steps}",
                f"python -m facelib train --run {run.name}    (it goes on from its checkpoint)",
            )
    return found


def _add(problems: list, problem: str, command: str) -> None:
    problems.append({"problem": problem, "next": command})
