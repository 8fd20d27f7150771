"""`divmon sweep BASE TUNED`: the command around `divmon.lineages.sweep`."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from divmon.cli.command import EXPECTED, argument, command, flag
from divmon.cli.flags import Loaded, Measured, numbers
from divmon.cli.select import Chosen
from divmon.cli.watch import until_stopped
from divmon.lineages.sweep import PER_ALPHA, Sweep, SweepError
from divmon.lineages.watch.checkpoints import Loader
from divmon.loggers.terminal import show

OK, NOTHING_CHOSEN = 0, 3

_EPILOG = """In --out: model/ (the chosen one, for from_pretrained), frontier.png (with matplotlib), frontier.csv, and
_divmon/, a run whose step is 1000 alpha: divmon report DIR, divmon compare DIR runs/a.

exit code: 0 a model was chosen and saved; 2 wrong usage, or models that cannot be mixed; 3 measured, and none fits the
rule; 130 and 143 stopped by SIGINT or SIGTERM: started again it goes on."""


def shares(text: str) -> list[float]:
    """Numbers from 0 to 1 with commas between them; raises ValueError where one is none."""
    if wrong := [x for x in numbers(text) if not 0 <= x <= 1]:
        raise ValueError(f"expected numbers from 0 (the base) to 1 (the tuned model), got {wrong[0]:g}")
    return [round(x * PER_ALPHA) / PER_ALPHA for x in numbers(text)]


@dataclass
class Flags(Chosen, Loaded, Measured):
    """Measures models between BASE and TUNED, whose weights are (1 - alpha) of the one's plus alpha of the other's (an
    adapter's update, scaled by alpha), draws the frontier of accuracy and diversity, and saves the chosen model: of
    those as accurate as the best (paired 95 percent interval) the most diverse. Started again, it goes on.

    BASE and TUNED are hub ids or folders; TUNED may be a LoRA adapter."""

    base: str = argument("BASE")
    """The model that training began with."""
    tuned: str = argument("TUNED")
    """What came of it."""
    out: Path = flag(Path("divmon-sweep"), metavar="DIR")
    """Folder for the results."""
    alphas: list[float] | None = flag(read=shares, metavar="A,A,...")
    """Measure these, beside 0 and 1; if not told, where figures change most."""
    points: int = flag(9, metavar="N")
    """Models to measure in all, without --alphas."""
    temperatures: list[float] | None = flag(read=numbers, metavar="T,T,...")
    """Also measure TUNED at these sampling temperatures, for comparison."""
    tokenizer: str | None = flag(metavar="NAME")
    """In place of TUNED's own."""


@command("divmon sweep", epilog=_EPILOG, fails=(SweepError, *EXPECTED))
def main(given: Flags) -> int:
    """Runs the command and returns its exit code."""
    if given.points < 3:
        raise ValueError(f"--points: expected at least 3 (base, tuned, and one between), got {given.points}")
    rule = given.rule()
    config = given.resolved(alerts=None)
    from divmon.lineages.sweep import display
    from divmon.monitor import DiversityMonitor
    from divmon.storage.data_frames import write_csv

    def monitor(temperature: float | None) -> Any:
        if temperature is None:
            return DiversityMonitor(config=config)
        num_samples = config.options.num_samples
        return DiversityMonitor(config=config, temperature=temperature, reference_samples=num_samples)

    loader = Loader(given.device, given.dtype, given.base, given.tokenizer, given.trust_remote_code)
    loader.check()
    for temperature in given.temperatures or ():
        monitor(temperature)  # out of range is an error now
    sweep = Sweep(given.base, given.tuned, given.out, monitor, loader, metric=given.metric)

    def run() -> int:
        found = sweep.run(given.alphas, rule, most=given.points, temperatures=given.temperatures or ())
        write_csv(display.frame(found), given.out / "frontier.csv")
        show("", display.table(found))
        if importlib.util.find_spec("matplotlib"):
            display.draw(found, given.out / "frontier.png")
            show(f"picture: {given.out / 'frontier.png'}")
        else:
            show("no picture, since matplotlib is not installed: pip install 'divmon[demo]'", file=sys.stderr)
        if found.choice is None:
            show(f"divmon sweep: nothing is chosen: {found.why_not}", file=sys.stderr)
            return NOTHING_CHOSEN
        show(f"chosen: alpha {found.alpha:g}, {found.choice.why}", f"saved in {given.out / 'model'}")
        return OK

    return until_stopped("divmon sweep", run)
