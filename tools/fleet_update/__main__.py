"""`make fleet-update`: a good and a poisoned release over a fleet, with power cuts at random instants.

1,000 light machines run the real logic of the updater, the real plan of the gateway decides who gets what. As
root, three machines from real packages in clean Debian roots are updated as well. Prints what happened, and
exits with 1 if a promise was broken.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from cloud_gateway.rollouts.plan import Progress, Result, decide, waves
from edge_updater.state import Wanted
from tools.fleet_update.light import POISONS, LightMachine, Release

MACHINES, SEED = 1000, 1
BASE, GOOD, POISONED, MENDED = "1.0", "1.1", "1.2", "1.3"
SLICE_S = 60.0
"""The gateway decides this often."""
OFFLINE = 0.03
"""The share of machines that is not reached in a slice."""
BUSY = 0.1
"""The share of slices in which somebody stands at a machine."""
CUTS, CUTS_S = 3, 12 * 3600.0
"""Each machine meets up to this many power cuts, at random instants of these seconds."""
LONGEST_S = 3 * 24 * 3600.0
MOST_OFF_AIR_S = 10.0


@dataclass
class Run:
    """How a release went."""

    version: str
    reached: int = 0
    results: Counter[str] = field(default_factory=Counter)
    stopped: str = ""
    hours: float = 0.0


def release(version: str, fleet: list[LightMachine], rng: random.Random) -> Run:
    """Lets the plan bring a version to the fleet, until it is finished or stopped."""
    run = Run(version)
    by_name = {machine.name: machine for machine in fleet}
    progress = {name: Progress(wave) for name, wave in waves(f"release {version}", list(by_name)).items()}
    began_s = now_s = fleet[0].now_s
    while now_s - began_s < LONGEST_S:
        for name, machine in by_name.items():
            outcome = machine.state.outcome
            if progress[name].result == "SENT" and outcome is not None and outcome.wanted.version == version:
                progress[name] = replace(progress[name], result=outcome.result, since_s=now_s)
        online = frozenset(name for name in by_name if rng.random() >= OFFLINE)
        decision = decide(progress, online, now_s)
        if decision.stop or decision.finished:
            run.stopped = decision.stop
            break
        for name in decision.send:
            by_name[name].disk.wanted = Wanted(version, f"{version}-{name}")
            progress[name] = replace(progress[name], result="SENT", since_s=now_s)
        now_s += SLICE_S
        for machine in fleet:
            if rng.random() < BUSY:
                machine.busy_until_s = now_s
            machine.run_until(now_s)
    finish(fleet, now_s)
    sent: list[Result] = [one.result for one in progress.values() if one.result != "WAITING"]
    run.reached, run.hours = len(sent), (now_s - began_s) / 3600
    run.results = Counter(outcome_of(machine, version) for machine in fleet)
    return run


def finish(fleet: list[LightMachine], now_s: float) -> None:
    """Lets every trial come to its end, and every board that has no power boot again."""
    for machine in fleet:
        machine.run_until(now_s + 7200.0)
        machine.settle()
    end_s = max(machine.now_s for machine in fleet)
    for machine in fleet:
        machine.run_until(end_s)
        machine.settle()


def outcome_of(machine: LightMachine, version: str) -> str:
    """What the machine recorded of a version; empty if it never got it."""
    outcome = machine.state.outcome
    return outcome.result if outcome is not None and outcome.wanted.version == version else ""


def broken_promises(
    fleet: list[LightMachine], codes: dict[str, frozenset[str]], runs: list[Run]
) -> list[str]:
    """Every promise that does not hold."""
    found = []
    for machine in fleet:
        if not machine.serves or machine.state.trial is not None:
            found.append(f"{machine.name} is bricked: it runs {machine.running}: {machine.log[-5:]}")
        if machine.disk.codes != codes[machine.name]:
            found.append(f"{machine.name} has lost codes")
        if machine.off_air and max(machine.off_air) >= MOST_OFF_AIR_S:
            found.append(f"{machine.name} was off the air for {max(machine.off_air):.1f} s")
    good, poisoned, mended = runs
    for run in (good, mended):
        if run.stopped:
            found.append(f"the good release {run.version} was stopped: {run.stopped}")
    if not poisoned.stopped:
        found.append("the poisoned release was not stopped")
    if poisoned.reached > 5:
        found.append(f"the poisoned release reached {poisoned.reached} machines")
    return found


def light_fleet(number: int, seed: int, show: Callable[[str], None]) -> tuple[list[str], str]:
    """Both releases over the light machines; the broken promises, and a digest of everything that
    happened."""
    rng = random.Random(seed)
    poison = rng.choice(POISONS)
    releases = {version: Release(version) for version in (BASE, GOOD, MENDED)}
    releases[POISONED] = Release(POISONED, poison)
    fleet = []
    for place in range(number):
        own = random.Random(f"{seed} {place}")
        cuts = [own.uniform(0, CUTS_S) for _ in range(own.randrange(CUTS + 1))]
        fleet.append(LightMachine(f"machine_{place:04}", releases, BASE, own, cuts))
    codes = {machine.name: machine.disk.codes for machine in fleet}
    runs = [release(version, fleet, rng) for version in (GOOD, POISONED, MENDED)]
    cuts_met = sum(machine.cuts_met for machine in fleet)
    off_air = sorted(second for machine in fleet for second in machine.off_air)
    show(f"{number} machines, seed {seed}: {cuts_met} power cuts, the poison is: {poison}")
    for run in runs:
        results = ", ".join(f"{count} {result}" for result, count in sorted(run.results.items()) if result)
        show(f"release {run.version}: reached {run.reached} machines in {run.hours:.1f} h: {results}")
        show(f"  {'stopped: ' + run.stopped if run.stopped else 'finished'}")
    worst, middle = off_air[-1], off_air[len(off_air) // 2]
    show(f"off the air by updates: {len(off_air)} times, p50 {middle:.1f} s, longest {worst:.1f} s")
    text = "".join(line for machine in fleet for line in machine.log)
    return broken_promises(fleet, codes, runs), hashlib.sha256(text.encode()).hexdigest()[:16]


def main(arguments: list[str] | None = None) -> int:
    """Reads the command line and runs; returns the exit code."""
    parser = argparse.ArgumentParser(prog="fleet-update", description="Updates a fleet, with power cuts.")
    parser.add_argument("--machines", type=int, default=MACHINES)
    parser.add_argument("--seed", type=int, default=SEED)
    options = parser.parse_args(arguments)
    broken, digest = light_fleet(options.machines, options.seed, lambda line: print(line, flush=True))
    print(f"digest {digest}")
    for line in broken:
        print(f"BROKEN: {line}")
    print("0 bricked, 0 codes lost" if not broken else f"{len(broken)} promises broken")
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
