"""The answer to "is my run worse, and why?", in one to three sentences made of facts: `Comparison.answer`.

    comparison.answer.text       # "RTX 4070 Ti ends 0.19 lower than laptop, beyond chance, because it is another ..."
    comparison.answer.lower      # "test"
    comparison.answer.expected   # the runs of known recipes: what they end at, and what their recipe gives

The first sentence says which run ends lower, by how much, whether chance can make it, and the strongest cause that the
evidence supports; the second which runs are what their recipe gives; the third, only where nothing in the records
blames the hardware, that. No sentence says more than a verdict, a finding or a shipped reference says.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from lossgap.comparison.compared import Compared
from lossgap.comparison.facts import Facts
from lossgap.comparison.findings.recipe import reference_of
from lossgap.comparison.metric import Metric, NoMetric
from lossgap.comparison.names import names
from lossgap.comparison.reasons import Names, because, named
from lossgap.runs.readers.recipe_match import Reference, references

Side = Literal["control", "test"]
SIDES: tuple[Side, Side] = ("control", "test")
KINDS = {"cuda": "GPU", "mps": "GPU", "cpu": "CPU"}


@dataclass(frozen=True, kw_only=True)
class Expected:
    """A run of a known recipe: what it shows, and what the recipe gives at the same iteration, in nats per token."""

    run: Side
    recipe: str
    iteration: int
    val_loss: float
    reference: float
    holds: bool
    """True if they agree within what other seeds and devices make."""
    certain: bool
    """True if the record states the recipe; else its figures fit it."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """See the top of this file."""

    sentences: tuple[str, ...]
    """One to three: which run is lower and why; what the runs' recipes give; what is not evidence."""
    names: tuple[str, str]
    """The names that the text uses for the control and the test."""
    lower: Side | None
    """The run that ends lower; None where there is no gap, or none that can be compared."""
    by: float | None
    """How much lower, in the unit of the gap; never negative."""
    beyond_chance: bool | None
    """True if chance (seed, data order, evaluation) does not make it; None where there is no gap to judge."""
    cause: str | None
    """The id of the finding that the text gives as the cause."""
    expected: tuple[Expected, ...]
    same_record: bool = False
    """True if both runs are one and the same record."""
    against_recipe: bool = False
    """True if one side is a recipe without losses of its own, and `expected` holds the other against its reference."""

    @property
    def text(self) -> str:
        """The sentences in one paragraph."""
        return " ".join(self.sentences)


def answer(comparison: Compared) -> Answer:
    """The answer to a comparison."""
    called = names(comparison)
    gap, verdict = comparison.gap, comparison.verdict
    judged = comparison.gap is not None and verdict.word != "not-comparable"
    recipe = None if judged else _against_recipe(comparison)
    expected = tuple(_expected(comparison)) if recipe is None else (recipe,)
    same = _same_record(comparison)
    cause = comparison.causes[0].id if comparison.causes and verdict.is_gap else None
    sentences = [_on_track(recipe, called) if recipe is not None else _first(comparison, called, same=same)]
    if not same:
        sentences += [_recipes(expected, called)] if judged else []
        sentences += [_hardware(comparison)] if verdict.is_gap else []
    return Answer(
        sentences=tuple(filter(None, sentences)),
        names=called,
        lower=None if not judged or not gap else "test" if gap < 0 else "control",
        by=abs(gap) if gap is not None and judged else None,
        beyond_chance=_beyond(comparison) if judged else None,
        cause=cause,
        expected=expected,
        same_record=same,
        against_recipe=recipe is not None,
    )


def _beyond(comparison: Compared) -> bool:
    interval = comparison.verdict.interval
    return interval is not None and not interval[0] <= 0 <= interval[1]


# ---------------------------------------------------------------------------------------------
# Which run is lower, by how much, beyond chance or not, why


def _first(comparison: Compared, called: Names, *, same: bool) -> str:
    verdict, gap = comparison.verdict, comparison.gap
    if same:
        return f"Both are one and the same record, {comparison.control.run.name}: there is no gap to explain."
    if verdict.word == "not-comparable" or gap is None:
        return _not_comparable(comparison, called)
    lower = called[1 if gap < 0 else 0]
    other = called[0 if gap < 0 else 1]
    if verdict.word == "equivalent":
        if not gap:
            return f"{called[0]} and {called[1]} end at the same loss."
        margin = f"within the margin of {verdict.margin:g}"
        return f"{called[0]} and {called[1]} end alike: {lower} is {amount(gap)} lower, {margin}."
    if verdict.word == "inconclusive":
        return _inconclusive(comparison, lower, other)
    return f"{lower} ends {amount(gap)} lower than {other}, beyond chance{_why(comparison, called)}"


def _why(comparison: Compared, called: Names) -> str:
    """The rest of the first sentence: `, because it is another experiment: 13x the parameters, 53x the tokens.`"""
    if not comparison.causes:
        some = comparison.settings.differ_in_meaning
        none = "no cause that these records show" if some else "no setting that is in both records differs"
        return f"; {none}." if comparison.settings.comparable else "; the records name no settings that could say why."
    first = comparison.causes[0]
    said = because(first, comparison, called)
    if not said:
        title = named(first.title, called)
        return f". {'Cause' if first.strength == 'strong' else 'A possible cause'}: {title[:1].lower()}{title[1:]}."
    return f"{', because' if first.strength != 'possible' else ', possibly because'} {said}."


def _inconclusive(comparison: Compared, lower: str, other: str) -> str:
    gap, interval = comparison.gap, comparison.verdict.interval
    assert gap is not None
    reach = "" if interval is None else f" of up to {amount((interval[1] - interval[0]) / 2)}"
    if not gap:
        return f"{lower} and {other} end at the same loss, but chance makes differences{reach} in two single runs."
    return (
        f"{lower} ends {amount(gap)} lower than {other}, but chance alone makes gaps{reach} "
        "(another seed, another sample of evaluation text), so these two runs cannot tell which is better."
    )


def amount(gap: float) -> str:
    """A gap without its sign, with as many digits as a reader needs: `0.19`, `0.013`, `0.0004`."""
    size = abs(gap)
    return f"{size:.2f}" if size >= 0.1 else f"{size:.2g}" if size >= 1e-4 else f"{size:.1g}"


def _not_comparable(comparison: Compared, called: Names) -> str:
    found = comparison.alignment.metric
    why = comparison.verdict.reasons[0] if comparison.verdict.reasons else ""
    why = re_named(found.why if isinstance(found, NoMetric) else why, called)
    return f"{called[0]} and {called[1]} cannot be compared: {why}."


def re_named(text: str, called: Names) -> str:
    """A reason that says `control` and `test` without an article, with the runs' names."""
    words = {"control": called[0], "test": called[1]}
    found = [words.get(word, words.get(word[:-1], word) if word[-1:] in ",;:." else word) for word in text.split(" ")]
    return " ".join(found)


# ---------------------------------------------------------------------------------------------
# Against the recipe


def _expected(comparison: Compared) -> Iterator[Expected]:
    """The findings of rule `recipe-result` about each run."""
    for item in comparison.findings:
        numbers = item.numbers
        if item.id != "recipe-result" or not {"run", "recipe", "val", "reference"} <= numbers.keys():
            continue
        side: Side = "control" if numbers["run"] == "control" else "test"
        facts: Facts = getattr(comparison, side)
        assert facts.val is not None
        yield Expected(
            run=side,
            recipe=str(numbers["recipe"]),
            iteration=round(facts.val.last.iter),
            val_loss=float(str(numbers["val"])),
            reference=float(str(numbers["reference"])),
            holds="off" not in numbers,
            certain=item.evidence == "computed",
        )


def _recipes(expected: tuple[Expected, ...], called: Names) -> str:
    """`laptop is what its recipe gives (1.89, expected 1.886).`"""
    held = [item for item in expected if item.holds]
    if not held:
        return ""
    said = [f"{item.val_loss:.4g}, expected {item.reference:.4g}" for item in held]
    whose = [called[0 if item.run == "control" else 1] for item in held]
    if len(held) == 2:
        recipe = "its recipe" if all(item.certain for item in held) else "the recipe it fits"
        return f"Each is what {recipe} gives ({whose[0]} {said[0]}; {whose[1]} {said[1]})."
    recipe = "its recipe" if held[0].certain else f"the recipe it fits, {held[0].recipe},"
    return f"{whose[0]} is what {recipe} gives ({said[0]})."


def _against_recipe(comparison: Compared) -> Expected | None:
    """A run against a recipe without losses of its own: what the recipe's reference gives at the run's last iteration
    that the reference has."""
    for place, side in enumerate(SIDES):
        recipe: Facts = getattr(comparison, SIDES[1 - place])
        run: Facts = getattr(comparison, side)
        reference = _reference(recipe)
        if recipe.last_iter is not None or run.val is None or reference is None:
            continue
        logged = {at: run.val.at(at) for at in reference.evals}
        shared = {at: value.value for at, value in logged.items() if value is not None and not value.interpolated}
        if shared:
            at = max(shared)
            expected = reference.evals[at][1]
            return Expected(
                run=side,
                recipe=reference.name,
                iteration=at,
                val_loss=shared[at],
                reference=expected,
                holds=abs(shared[at] - expected) <= 2 * reference.tolerance["val"],
                certain=True,
            )
    return None


def _reference(recipe: Facts) -> Reference | None:
    """The shipped reference whose recipe a config has, or which a preset is named after."""
    found = reference_of(recipe)
    if found is not None:
        return found[0]
    named_so = [item for item in references() if recipe.run.format == "preset" and item.name == recipe.run.name]
    return next(iter(named_so), None)


def _on_track(found: Expected, called: Names) -> str:
    """`a.log is what shakespeare_char_cpu gives: val loss 1.886 at iteration 2,000, expected 1.886.`"""
    name, off = called[0 if found.run == "control" else 1], found.val_loss - found.reference
    there = f"val loss {found.val_loss:.4g} at iteration {found.iteration:,}, expected {found.reference:.4g}"
    reference = next(item for item in references() if item.name == found.recipe)
    end = max(reference.evals)
    then = (
        ""
        if found.iteration >= end
        else f" That recipe ends at {reference.evals[end][1]:.4g} after {end:,} iterations."
    )
    if found.holds:
        return f"{name} is what {found.recipe} gives: {there}.{then}"
    where = "above" if off > 0 else "below"
    return f"{name} is {amount(off)} {where} what {found.recipe} gives, more than another seed makes: {there}.{then}"


# ---------------------------------------------------------------------------------------------
# Hardware, one record


def _hardware(comparison: Compared) -> str:
    """That nothing blames the machine: where rule `another-machine` looked, and another cause explains the gap."""
    ids = {item.id for item in comparison.findings} | {item.id for item in comparison.ruled_out}
    looked = "another-machine" in ids
    sides = (comparison.control, comparison.test)
    kinds = [KINDS.get(str(facts.device_kind.value), "") for facts in sides]
    if not looked or not comparison.causes or not all(kinds) or (kinds[0] == kinds[1] and _same_device(comparison)):
        return ""
    higher = kinds[0 if (comparison.gap or 0.0) < 0 else 1]
    return f"Nothing here is evidence against {'either machine' if kinds[0] == kinds[1] else f'the {higher}'}."


def _same_device(comparison: Compared) -> bool:
    return comparison.control.device.value == comparison.test.device.value


def _same_record(comparison: Compared) -> bool:
    """True if every setting and every logged row of the two is equal."""
    first, second = comparison.control.run, comparison.test.run
    if comparison.groups is not None or not isinstance(comparison.alignment.metric, Metric):
        return False
    rows = first.evals.height + first.iters.height
    return (
        rows > 1
        and first.config == second.config
        and first.evals.equals(second.evals)
        and first.iters.equals(second.iters)
    )
