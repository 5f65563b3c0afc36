"""The course of a torture: acts of at most four minutes, each on new servers, and one verdict."""

import argparse
import collections
import os
import pathlib
import random
import secrets
import shutil
import sys
import tempfile
import threading
import time
import traceback

from .faults import KINDS
from .judge import Judgement, judge
from .marathon_stage import MarathonStage
from .plan import Fault, Plan, Step
from .stage import Shape, Stage

ACT = 240.0
TOTALS = ("lost", "twice", "out of order")


class Act:
    """One stage, its faults, its judgement."""

    def __init__(self, options: "Options", seconds: float, seed: str):
        self.options, self.seconds = options, seconds
        rng = random.Random(seed)
        self.plan = Plan(options.shape, rng, options.leave_out)
        kind = MarathonStage if options.shape.marathons else Stage
        self.stage = kind(options.shape, options.rate, rng.getrandbits(32), options.patience)
        self.judgement = Judgement()
        self.faults: list[Fault] = []
        self.began = 0.0

    def run(self) -> Judgement:
        try:
            self.stage.start()
            self._perform()
            if not self.judgement.broken:
                self._end()
        except Exception as failed:
            self.judgement.broken.append("".join(traceback.format_exception_only(failed)))
        finally:
            for instance in self.stage.instances.values():
                self.judgement.broken += instance.complaints()
            if not self.judgement.clean:
                os.environ["BUSBAR_TEST_KEEP"] = "1"
            self.stage.close()
        return self.judgement

    def _perform(self) -> None:
        self.began = time.monotonic()
        time.sleep(1)
        for step in self.plan.steps():
            if time.monotonic() - self.began > self.seconds or self.judgement.broken:
                return
            self._do(step)
            self.judgement.broken += self.stage.ended()
            time.sleep(step.pause)

    def _do(self, step: Step) -> None:
        lanes = [threading.Thread(target=self._run_lane, args=(lane,), daemon=True) for lane in step.lanes]
        for lane in lanes:
            lane.start()
        for lane in lanes:
            lane.join(300)
            if lane.is_alive():
                self.judgement.broken.append(f"a fault does not end: {', '.join(map(str, step.faults))}")

    def _run_lane(self, lane: list[Fault]) -> None:
        for fault in lane:
            began = time.monotonic()
            fault.began = began - self.began
            self.faults.append(fault)
            try:
                fault.said = fault.kind.run(self.stage, fault.target, fault.length, random.Random(fault.seed)) or ""
            except Exception as failed:
                self.judgement.broken.append(f"{fault}: {''.join(traceback.format_exception_only(failed))}")
                return
            finally:
                fault.took = time.monotonic() - began
                if self.options.verbose:
                    print(fault, flush=True)

    def _end(self) -> None:
        self.stage.heal()
        self.stage.wait_caught_up(90)
        for instance in self.stage.instances.values():
            instance.follower.stop()
            instance.stop()
        judge(self.stage, self.judgement, self.options.gaps)


class Options:
    """Of the command line and the environment."""

    def __init__(self, words: list[str]):
        about = "Random faults on real servers, and a verdict."
        parser = argparse.ArgumentParser(prog="tests/torture", description=about)
        parser.add_argument("seconds", nargs="?", type=float, default=120)
        parser.add_argument("seed", nargs="?", type=int, default=secrets.randbelow(1 << 32))
        parser.add_argument("-v", "--verbose", action="store_true", help="print each fault when it is over")
        parser.add_argument("--only", default="", help="faults whose name or scope has one of these words, by commas")
        given = parser.parse_args(words)
        self.seconds, self.seed, self.verbose = given.seconds, given.seed, given.verbose
        only = [word for word in given.only.split(",") if word]
        self.leave_out = frozenset(k.name for k in KINDS if only and not any(w in f"{k.name} {k.scope}" for w in only))
        number = lambda name, default: type(default)(os.environ.get(f"BUSBAR_TORTURE_{name}", default))  # noqa: E731
        self.rate, self.patience = number("RATE", 70.0), number("PATIENCE", 1.0)
        self.gaps = bool(number("GAPS", 0))
        counts = (number("INSTANCES", 2), number("NOMADS", 1), number("BROKERS", 1))
        marathon = number("SOURCE", "nomad") == "marathon"
        self.gaps = self.gaps or marathon
        self.shape = Shape(*counts, kafka=bool(number("KAFKA", 1)), marathon=marathon)


def main(words: list[str]) -> int:
    options = Options(words)
    print(f"seed {options.seed}, {options.seconds:g} s", flush=True)
    tempfile.tempdir = tempfile.mkdtemp(prefix="busbar-torture-")
    acts: list[Act] = []
    left = options.seconds
    while left > 0 and all(act.judgement.clean for act in acts):
        act = Act(options, min(left, ACT), f"{options.seed}/{len(acts)}")
        acts.append(act)
        act.run()
        left -= ACT
        _report_act(len(acts), act)
        act.stage = None  # what the networks recorded is not kept
    return _report(acts, options)


def _report_act(number: int, act: Act) -> None:
    told = act.judgement
    starts = ", ".join(f"{name} started {instance.starts + 1} times" for name, instance in act.stage.instances.items())
    print(f"act {number}: {told.events} events, {len(act.faults)} faults; {starts}", flush=True)
    for name, verdict in told.exits.items():
        print(f"  {name}: {verdict.summary()}", flush=True)


def _report(acts: list[Act], options: Options) -> int:
    faults = [fault for act in acts for fault in act.faults]
    clean = all(act.judgement.clean for act in acts) and (options.gaps or not any(act.judgement.gaps for act in acts))
    print("faults:")
    for name, count in sorted(collections.Counter(fault.kind.name for fault in faults).items()):
        print(f"  {count:5d}  {name}")
    if clean:
        shutil.rmtree(tempfile.tempdir, ignore_errors=True)
    else:
        _tell_failure(acts[-1], options)
    print(_verdict(acts, len(faults)))
    sys.stdout.flush()
    return 0 if clean else 1


def _tell_failure(act: Act, options: Options) -> None:
    print(act.judgement.details())
    print("the faults in time order:")
    for fault in sorted(act.faults, key=lambda fault: fault.began):
        print(f"  {fault}")
    print(f"folders and logs: {tempfile.tempdir}")
    print(f"again: tests/torture {options.seconds:g} {options.seed}")


def _verdict(acts: list[Act], faults: int) -> str:
    counts = collections.Counter()
    for act in acts:
        counts.update(act.judgement.counts | {"gaps": act.judgement.gaps})
    parts = [f"{sum(act.judgement.events for act in acts)} events", f"{faults} faults"]
    parts += [f"{counts[name]} {name}" for name in TOTALS]
    parts += [f"{count} {name}" for name, count in counts.items() if count and name not in TOTALS]
    return ", ".join(parts)
