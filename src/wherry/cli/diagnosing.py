"""`wherry diagnose`: where a live backend first fails."""

from __future__ import annotations

import sys
from dataclasses import asdict

import anyio

from wherry.cli.ending import Exit, print_json
from wherry.cli.history import find_run
from wherry.doctor.diagnose import Probe, Question, diagnose, question_of, verdict
from wherry.models import Model, Prepared, model_from
from wherry.observe.visible import one_line
from wherry.store import open_store


def print_diagnosis(model_name: str | None, *, run: str | None, as_json: bool) -> Exit:
    """A line a probe, then what they say; exit code 1 when one failed.

    Raises:
        WherryError: there is no such run, or the backend could not be got ready at all.
    """
    question = None
    if run is not None:
        store = open_store()
        try:
            question = question_of(store, find_run(store, run).run_id)
        finally:
            store.close()
    return anyio.run(_probe, model_from(model_name or "local"), question, as_json)


async def _probe(model: Model, question: Question | None, as_json: bool) -> Exit:
    probes: list[Probe] = []
    async for probe in diagnose(model, question):
        probes.append(probe)
        if as_json:
            print_json(asdict(probe))
        else:
            sys.stdout.write(f"{_line(probe)}\n")
            sys.stdout.flush()
    profile = await model.prepare() if isinstance(model, Prepared) else model.profile
    said = verdict(probes, profile)
    if as_json:
        print_json({"verdict": said})
    else:
        sys.stdout.write(f"\n{said}\n")
    failed = any(not probe.ok or probe.truncated for probe in probes)
    return Exit.FAILED if failed else Exit.DONE


def _line(probe: Probe) -> str:
    reported = "" if probe.reported is None else f", the server counted {probe.reported:,}"
    outcome = "read in part only" if probe.truncated else "ok" if probe.ok else f"{probe.kind}: {probe.said}"
    messages = f"{probe.messages} message{'' if probe.messages == 1 else 's'}"
    sizes = f"{messages}, {probe.tokens:,} tokens{reported}, {probe.seconds:.1f} s"
    return f"{probe.what}: {sizes}: {one_line(outcome, 140)}"
