"""Ideas: what a person can say of a session's features, each with the sentences that say it."""

from __future__ import annotations

from dataclasses import dataclass

from serve.features.session_features import N_DRAWN
from serve.features.similarity import MAX_PROMPTS, MAX_SCORED
from serve.scoring.statements import ALIKE, AMOUNT, COUNT, GAIN, NUMBER, PERCENT, POINTS, Measure


@dataclass(frozen=True, slots=True)
class Idea:
    """Features that mean one thing: beginnings of their names, and the measures that it can be shown by, the plainest
    first. An idea without measures counts, but is never shown."""

    name: str
    prefixes: tuple[str, ...]
    measures: tuple[Measure, ...] = ()


_TEACHER = "like tasks for a teacher model"
_SCALE = "as tasks for a teacher model (scale -8 to +8)"
_SCALE_OF_ONE = "as a task for a teacher model (scale -8 to +8)"

IDEAS = (
    Idea(
        "teacher_tasks",
        (
            "evidence.harvest_mean",
            "evidence.harvest_q10",
            "evidence.harvest_q25",
            "evidence.harvest_q50",
            "evidence.harvest_q75",
            "evidence.harvest_share",
            "evidence.harvest_probability",
            "subset.half_evidence",
        ),
        (
            Measure("evidence.harvest_share", COUNT, "{value} of {base} prompts read " + _TEACHER, most=MAX_SCORED),
            Measure(
                "evidence.harvest_probability",
                PERCENT,
                f"A prompt reads {_TEACHER} with a mean probability of {{value}}",
            ),
            Measure("evidence.harvest_q50", POINTS, "The middle prompt scores {value} " + _SCALE_OF_ONE),
            Measure(
                "subset.half_evidence", POINTS, "The clearer half of the prompts scores {value} " + _SCALE, least=2
            ),
        ),
    ),
    Idea(
        "single_prompts",
        (
            "evidence.harvest_q90",
            "evidence.harvest_max",
            "evidence.harvest_top",
            "evidence.harvest_strong_share",
            "subset.quarter_evidence",
            "subset.tenth_evidence",
        ),
        (
            Measure(
                "evidence.harvest_strong_share",
                COUNT,
                "{value} of {base} prompts read strongly " + _TEACHER,
                most=MAX_SCORED,
            ),
            Measure("evidence.harvest_max", POINTS, "The clearest prompt scores {value} " + _SCALE_OF_ONE),
            Measure("evidence.harvest_top2", POINTS, "The two clearest prompts score {value} " + _SCALE, least=2),
            Measure("evidence.harvest_top5", POINTS, "The five clearest prompts score {value} " + _SCALE, least=5),
            Measure("subset.quarter_evidence", POINTS, "The clearest quarter scores {value} " + _SCALE, least=4),
            Measure("subset.tenth_evidence", POINTS, "The clearest tenth scores {value} " + _SCALE, least=10),
        ),
    ),
    Idea(
        "hidden_part",
        (
            "evidence.harvest_run",
            "evidence.harvest_mixture",
            "subset.half_distance",
            "subset.quarter_distance",
            "subset.tenth_distance",
            "subset.rest_cosine",
        ),
        (
            Measure(
                "evidence.harvest_run", POINTS, "The clearest eight prompts in a row score {value} " + _SCALE, least=8
            ),
            Measure(
                "evidence.harvest_mixture",
                ALIKE,
                "Part of the prompts being tasks for a teacher is likelier than none by {value} log-odds a prompt",
                least=2,
            ),
            Measure(
                "subset.quarter_distance",
                ALIKE,
                "The clearest quarter lies {value} from the rest (0 is the same subject)",
                least=4,
            ),
            Measure(
                "subset.rest_cosine", GAIN, "Prompts of the less clear half have a mean similarity of {value}", least=4
            ),
        ),
    ),
    Idea(
        "likeness",
        (
            "geometry.pair_",
            "geometry.nearest_",
            "geometry.effective_rank",
            "subset.half_cosine",
            "subset.quarter_cosine",
            "subset.tenth_cosine",
            "subset.half_nearest",
            "subset.quarter_nearest",
            "subset.tenth_nearest",
        ),
        (
            Measure(
                "geometry.pair_mean", GAIN, "Two prompts have a mean similarity of {value} (1 is the same)", least=2
            ),
            Measure(
                "geometry.nearest_q50",
                GAIN,
                "The middle prompt has a similarity of {value} to its nearest (1 is the same)",
                least=2,
            ),
            Measure(
                "geometry.effective_rank", PERCENT, "Prompts go in {value} of the directions that they could", least=2
            ),
            Measure(
                "subset.half_cosine",
                GAIN,
                "Prompts of the clearer half have a mean similarity of {value} (1 is the same)",
                least=4,
            ),
            Measure(
                "subset.quarter_cosine",
                GAIN,
                "Prompts of the clearest quarter have a mean similarity of {value} (1 is the same)",
                least=8,
            ),
        ),
    ),
    Idea(
        "templates",
        ("geometry.duplicate_share", "surface.opening_shared", "surface.text_repeated"),
        (
            Measure(
                "surface.opening_shared", COUNT, "{value} of {base} prompts share their opening words with another"
            ),
            Measure(
                "geometry.duplicate_share", COUNT, "{value} of {base} prompts nearly repeat another", most=MAX_PROMPTS
            ),
            Measure("surface.text_repeated", COUNT, "{value} of {base} prompts repeat another word for word"),
        ),
    ),
    Idea(
        "follow_ups",
        ("geometry.consecutive_gain",),
        (
            Measure(
                "geometry.consecutive_gain",
                GAIN,
                "The similarity of a prompt to the next one, less that to any other, is {value}",
                least=3,
            ),
        ),
    ),
    Idea(
        "one_area",
        ("coverage.main_", "coverage.areas_"),
        (
            Measure("coverage.main_share", COUNT, "{value} of {base} prompts fall in one capability area"),
            Measure("coverage.areas_shannon", NUMBER, "Prompts spread over as much as {value} areas", "n_placed"),
            Measure(
                "coverage.main_rarefied",
                NUMBER,
                "Eight prompts of its main area reach {value} cells of the map",
                "n_main",
                least=N_DRAWN,
            ),
            Measure(
                "coverage.main_evenness",
                PERCENT,
                "Cells of its main area are reached with an evenness of {value}",
                "n_main",
                least=4,
            ),
            Measure(
                "coverage.main_unseen_mass",
                COUNT,
                "{value} of {base} prompts of its main area are alone in their cell",
                "n_main",
            ),
        ),
    ),
    Idea(
        "breadth",
        ("coverage.rarefied", "coverage.evenness", "coverage.unseen_mass", "coverage.simpson_share"),
        (
            Measure(
                "coverage.rarefied",
                NUMBER,
                "Eight prompts of it reach {value} cells of the map",
                "n_placed",
                least=N_DRAWN,
            ),
            Measure(
                "coverage.unseen_mass",
                COUNT,
                "{value} of {base} prompts are alone in their cell of the map",
                "n_placed",
            ),
            Measure(
                "coverage.evenness", PERCENT, "Cells of the map are reached with an evenness of {value}", "n_placed", 4
            ),
            Measure(
                "coverage.simpson_share", AMOUNT, "Prompts spread over as much as {value} even cells", "n_placed", 2
            ),
        ),
    ),
    Idea(
        "known_ground",
        ("coverage.confidence", "coverage.cosine"),
        (
            Measure(
                "coverage.confidence", PERCENT, "Prompts belong to a capability area at {value} certainty on average"
            ),
            Measure("coverage.cosine", GAIN, "Prompts have a mean similarity of {value} to the map's nearest example"),
        ),
    ),
    Idea("length", ("size.",)),
)
"""Every feature that is judged by belongs to the first idea that has a beginning of its name."""


def idea_of(name: str) -> int | None:
    """Index of the idea that a feature belongs to, None where it has none."""
    return next((index for index, idea in enumerate(IDEAS) if name.startswith(idea.prefixes)), None)
