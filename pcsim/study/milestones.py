"""The updates at which a study evaluates and records."""

from typing import NamedTuple

from pcsim.study.build import Plan
from pcsim.study.schema import Updates


class Milestones(NamedTuple):
    """At which updates a study evaluates and records, in order."""

    evaluation: tuple[int, ...]
    recording: tuple[int, ...]
    last: int

    def all(self) -> list[int]:
        """Every update at which something happens, the end included."""
        return sorted({*self.evaluation, *self.recording, self.last})


def milestones_of(plan: Plan) -> Milestones:
    """The milestones of a study; `last` is the final update."""
    study = plan.study
    last = study.learning.updates if study.learning else 0

    def resolve(updates: Updates) -> set[int]:
        return {last if u == "last" else u for u in updates}

    evaluation = resolve(study.evaluation.at_updates)
    if study.evaluation.every:
        evaluation |= set(range(study.evaluation.every, last + 1, study.evaluation.every))
    recording_at = resolve(study.record.at_updates) if study.record else set()
    for key, updates in (("evaluation", evaluation), ("record", recording_at)):
        if late := [u for u in updates if u > last]:
            plan.loaded.source.fail((key, "at_updates"), f"update {late[0]} is after the last one, {last}")
    wanted = study.evaluation.model_fields_set - {"every", "at_updates", "on"}
    return Milestones(tuple(sorted(evaluation)) if wanted else (), tuple(sorted(recording_at)), last)
