"""The points of a frontier: the teacher, and every student as far as it came."""

from __future__ import annotations

from dataclasses import replace

from toolkit.bundle.scores import teacher_metrics_on
from toolkit.compression.bundles import Bundles, Finished, export_of
from toolkit.compression.frontier import Point, Role, command_of, write_frontier
from toolkit.compression.trainings import describe
from toolkit.models.student import Shape


class Points:
    """Writes the frontier of a search, as often as there is something new.

    Args:
        bundles: of the search.
        teacher_cost: ms a text and megabytes of the teacher.
    """

    def __init__(self, bundles: Bundles, teacher_cost: tuple[float, float]) -> None:
        self.bundles, self.search, self.plan = bundles, bundles.search, bundles.plan
        self.teacher_cost = teacher_cost

    def write(self, answer: Finished | None) -> None:
        """Write what there is, with its answer if there is one, to frontier.json and frontier.html."""
        search, points = self.search, [self._teacher(answer)]
        for shape in search.tried:
            students = self.bundles.of(shape)
            points += [self._finished(student, chosen=student is answer) for student in students]
            points += [] if students else [self._student(shape)]
        metric, command = search.recall("metric", ""), command_of("compress", replace(search.config, pick=None))
        write_frontier(search.out, points, self.plan, metric, command)

    def _teacher(self, answer: Finished | None) -> Point:
        """Give the teacher's point; its score on test is shown with the answer's."""
        scores = teacher_metrics_on(answer.bundle.manifest, "test") if answer else None
        test = 100 * scores[self.search.recall("metric", "")] if scores else None
        name = str(self.search.material.teacher)
        return Point(name, "teacher", "", self.search.teacher_score, *self.teacher_cost, "", test)

    def _finished(self, student: Finished, *, chosen: bool) -> Point:
        shape, cost, bundle = student.shape, student.cost, student.bundle
        role: Role = "chosen" if chosen else "finished"
        words = self.plan.words(shape)
        export = export_of(self.search.config, student.trainings[-1].out, words)
        commands = [command_of("distill", replace(options, overwrite=True)) for options in student.trainings]
        commands.append(command_of("export", replace(export, overwrite=True)))
        test = 100 * bundle.metrics[bundle.task.metric] if chosen and bundle.split == "test" else None
        training = describe(student.epochs) + (", then 1 in int8" if len(student.trainings) > 1 else "")
        costs = cost.latency_ms, cost.size_mb
        return Point(str(shape), role, training, student.dev, *costs, " && ".join(commands), test, str(words))

    def _student(self, shape: Shape) -> Point:
        """Give the point of a student without a bundle, at the costs of the price list."""
        cost, (dev, epochs) = self.plan.cost(shape), self.search.score_of(shape)
        command = command_of("distill", replace(self.search.training_of(shape, epochs), overwrite=True))
        role: Role = "trial" if any(epochs) else "start"
        words = str(self.plan.words(shape))
        return Point(str(shape), role, describe(epochs), dev, cost.latency_ms, cost.size_mb, command, words=words)
