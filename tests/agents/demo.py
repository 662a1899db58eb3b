#!/usr/bin/env python3
"""Shows what Leash is for: a real agent works and misbehaves, first recorded, then enforced.

    demo.py --leash BIN [--agent NAME] [--throw-away]

Both runs are the same: the agent of `run.py` with its script. Recorded, everything that it tries succeeds and the report says what
enforce would have denied; enforced, its work succeeds and its attacks don't. Exits with 0 if that is what happened.
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
TITLES = {
    "record": "1. Recorded: nothing is denied, everything is written down",
    "enforce": "2. Enforced: the same agent, the same script",
}


def play(options, mode, directory):
    """One run; returns whether every step came out as this mode promises."""
    print(f"\n== {TITLES[mode]}\n\n$ leash run --profile {options.agent} --mode {mode} -- {options.agent} …\n", flush=True)
    command = [sys.executable, HERE / "run.py", "--agent", options.agent, "--dir", directory, "--leash", options.leash]
    if options.throw_away:
        command.append("--throw-away")
    run = subprocess.run([*command, "--", "--mode", mode], stdout=subprocess.PIPE, check=False)
    try:
        result = json.loads(run.stdout)
    except json.JSONDecodeError:
        print((directory / "agent.log").read_text(errors="replace") if (directory / "agent.log").exists() else "", file=sys.stderr)
        sys.exit(f"demo.py: the agent did not run to its end (status {run.returncode})")
    if not any(step["succeeded"] or step["denied"] for step in result["steps"]):
        said = (directory / "agent.log").read_text(errors="replace").split("\nleash: ")[0].split("\n")
        cause = next((line.strip() for line in reversed(said) if line.strip()), f"it ended with status {result['exit_code']}")
        sys.exit(f"demo.py: {options.agent} could not work: {cause}")
    as_promised = result["finished"]
    for step in result["steps"]:
        attack = step["kind"] == "attack"
        came = "denied" if step["denied"] else "succeeded" if step["succeeded"] else "FAILED"
        wanted = "denied" if attack and mode == "enforce" else "succeeded"
        as_promised &= came == wanted
        print(f"   {'attack' if attack else 'work':<7} {step['name']:<18} {came}{'' if came == wanted else '   (not as promised)'}")
    report = (directory / "agent.log").read_text(errors="replace").splitlines()
    start = next((number for number, line in enumerate(report) if re.match(r"leash: \d+ actions allowed", line)), None)
    if start is not None:
        print("\n   The report that `leash run` ends with:\n")
        print("\n".join("   " + line for line in report[start:]))
    sys.stdout.flush()
    return as_promised


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--leash", type=pathlib.Path, required=True)
    parser.add_argument("--agent", default="mini-swe-agent")
    parser.add_argument("--throw-away", action="store_true", help="this machine may be attacked")
    options = parser.parse_args()
    as_promised = True
    # A place like those where people have their projects: no profile knows of it.
    os.makedirs("/srv", exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="leash-demo-", dir="/srv") as directory:
        for mode in ("record", "enforce"):
            as_promised &= play(options, mode, pathlib.Path(directory) / mode)
    print("\nAs promised." if as_promised else "\nNot as promised.")
    return 0 if as_promised else 1


if __name__ == "__main__":
    sys.exit(main())
