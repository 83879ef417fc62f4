"""A batch that is killed at random moments ends with the same clips, byte for byte, as one left alone.

    python benchmarks/kill_test.py --kills 10

Makes procedural objects, renders them twice with Blender, once in peace and once killed again and again (SIGKILL to the
driver and to its Blender processes), and compares every clip. Prints what happened; exit status 1 where clips differ.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RENDER = "--samples 2 --views 4 --random_views 2 --downsample 3 1 --max_clips 1 --device cpu --threads 1".split()


def digests(home: Path) -> dict[str, str]:
    """Clip name -> SHA-256 of its bytes."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(home.glob("*.tar"))}


def children(pid: int) -> list[int]:
    """The processes that a process has started (Linux)."""
    path = Path(f"/proc/{pid}/task")
    return [int(child) for task in path.glob("*/children") for child in task.read_text().split()]


def main() -> int:
    """Render in peace, render with kills, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--objects", type=int, default=8)
    parser.add_argument("--resolution", type=int, default=48)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        make = [sys.executable, ROOT / "blender_scripts/make_procedural.py", "--out", place / "models"]
        subprocess.run([*map(str, make), "--count", str(args.objects)], check=True, stdout=subprocess.DEVNULL)

        def command(home: str) -> list[str]:
            script = [sys.executable, ROOT / "blender_scripts/render_dataset.py", "--obj", place / "models"]
            return [*map(str, script), "--out_dir", str(place / home), "--resolution", str(args.resolution), *RENDER]

        started = time.perf_counter()
        subprocess.run(command("peace"), check=True, capture_output=True)
        peace = time.perf_counter() - started
        print(f"in peace: {len(digests(place / 'peace'))} clips in {peace:.0f} s", flush=True)
        generator, killed = random.Random(args.seed), 0
        while killed < args.kills:
            process = subprocess.Popen(command("killed"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            wait = generator.uniform(0.0, 0.4 * peace)
            try:
                process.wait(wait)
                break  # all is done before the kills are
            except subprocess.TimeoutExpired:
                victims = [process.pid, *children(process.pid)]
            for victim in victims:
                os.kill(victim, signal.SIGKILL)
            process.wait()
            killed += 1
            print(f"killed after {wait:.1f} s: {len(digests(place / 'killed'))} clips are there", flush=True)
        subprocess.run(command("killed"), check=True, capture_output=True)
        same = digests(place / "killed") == digests(place / "peace")
        print(f"killed {killed} times; the clips are {'the same, byte for byte' if same else 'NOT the same'}")
    return 0 if same and killed == args.kills else 1


if __name__ == "__main__":
    sys.exit(main())
