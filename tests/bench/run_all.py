"""Run every benchmark of this folder, one after the other; collect what they print as JSON.

    make bench                                   all
    python tests/bench/run_all.py verification   those named
    python tests/bench/run_all.py --publish      and each into runs/published/bench/NAME.json

A benchmark is a file `bench_NAME.py` that imports `repo` before facelib and prints one JSON object
to its standard output.
"""

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import repo  # noqa: F401

from facelib.paths import REPO, published_root, runs_root
from facelib.runs.folder import environment, write_json

FOLDER = Path(__file__).parent
TIMEOUT = 3600  # seconds


def run_benchmark(path: Path) -> dict:
    """Figures and seconds of one benchmark, or its error."""
    start = time.perf_counter()
    try:
        done = subprocess.run(
            [sys.executable, str(path)],
            cwd=REPO,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )
    except subprocess.TimeoutExpired:
        return {"seconds": TIMEOUT, "error": f"took longer than {TIMEOUT} s"}
    result = {"seconds": round(time.perf_counter() - start, 1)}
    try:
        result["figures"] = json.loads(done.stdout)
    except json.JSONDecodeError:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["printed nothing"]
        result["error"] = lines[-1]
    if done.returncode:
        result["error"] = f"exit code {done.returncode}: {result.get('error', 'see its output')}"
    return result


def publish(name: str, result: dict) -> None:
    """Write a benchmark's committed record: figures and where they are from."""
    facts = environment()
    record = {
        "name": name,
        "command": f"python tests/bench/bench_{name}.py",
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.machine()}, {processor()}",
        "cores": os.cpu_count(),
        "gpus": facts["gpus"],
        "python": facts["python"],
        "packages": facts["packages"],
        "commit": facts["commit"],
        **result,
    }
    write_json(published_root() / "bench" / f"{name}.json", record)


def processor() -> str:
    """Model name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "unknown processor"


def main() -> int:
    """Run, print, write; exit code 1 if a benchmark failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="benchmarks without bench_ and .py; default: all")
    parser.add_argument("--out", type=Path, default=runs_root() / "bench.json")
    parser.add_argument("--publish", action="store_true", help="write committed records too")
    options = parser.parse_args()
    found = {path.stem.removeprefix("bench_"): path for path in sorted(FOLDER.glob("bench_*.py"))}
    unknown = set(options.names) - set(found)
    if unknown:
        parser.error(f"no benchmark {', '.join(sorted(unknown))}: there are {', '.join(found)}")
    results = {}
    for name in options.names or found:
        sys.stderr.write(f"{name} ...\n")
        results[name] = run_benchmark(found[name])
        sys.stdout.write(json.dumps({name: results[name]}, indent=1) + "\n")
        if options.publish and "error" not in results[name]:
            publish(name, results[name])
    machine = {"machine": platform.platform(), "cores": os.cpu_count(), "results": results}
    write_json(options.out, machine)
    sys.stderr.write(f"written to {options.out}\n")
    return int(any("error" in result for result in results.values()))


if __name__ == "__main__":
    sys.exit(main())
