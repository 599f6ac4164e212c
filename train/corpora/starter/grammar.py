"""Starter families: YAML grammars of templates and slots, expanded into distinct prompts with a seed.

A family file names its `label`, `kind`, `areas` and then either `prompts` (stand-alone templates) and `conversations`
(lists of templates, asked in order) or `deployments` (templates of software, below). `{slot}` takes a value of `slots`,
the same one all through a conversation; `{slot.2}` takes another value of that slot; `{#2-99}` is an integer;
`[[a|b|c]]` is one of the three. Slot values may hold slots themselves. `person_slots` are drawn once a person. `style`
roughens what people type.

A deployment is one template, sent 6 to 24 times in one conversation with other inputs. `deployment_slots` are drawn
once for all of it; any other slot is drawn anew for each prompt, and slots inside a value anew for each value.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

KINDS = {"harvest": "harvesting", "person": "organic", "product": "organic", "evaluation": "evaluation"}
_TOKEN = re.compile(r"\{#(\d+)-(\d+)\}|\{([A-Za-z_]\w*)(?:\.(\d+))?\}|\[\[(.+?)\]\]", re.DOTALL)
_SLOT = re.compile(r"\{([A-Za-z_]\w*)(?:\.\d+)?\}")
_DIGITS = re.compile(r"\d+")
_MAX_DEPTH = 12
_DEPLOYMENT_SIZES = (6, 24)  # prompts that one deployment sends
_KEYBOARD = {"a": "s", "e": "r", "i": "o", "o": "p", "n": "m", "t": "y", "r": "t", "s": "d", "l": "k", "h": "j"}


@dataclass(frozen=True, slots=True)
class Style:
    """How a persona types: shares of letters mistyped, of prompts in lower case, of prompts without a full stop."""

    typos: float = 0.0
    lowercase: float = 0.0
    no_final_punctuation: float = 0.0


@dataclass(frozen=True, slots=True)
class Family:
    """One grammar file: what it asks, in which label, and how its texts vary."""

    name: str
    label: str
    kind: str
    areas: tuple[str, ...]
    conversations: tuple[tuple[str, ...], ...]
    deployments: tuple[str, ...]
    slots: Mapping[str, tuple[str, ...]]
    person_slots: tuple[str, ...]
    deployment_slots: tuple[str, ...]
    system: tuple[str, ...]
    style: Style


@dataclass(frozen=True, slots=True)
class StarterPrompt:
    """One expanded prompt with where it stands: whose it is, in which conversation, at which turn."""

    family: str
    person: str
    conversation: str
    turn: int
    text: str
    system: str | None


def read_family(path: Path) -> Family:
    """Read and check one family file.

    Raises:
        ValueError: naming the file and what is wrong: an unknown key, an undefined slot, a kind that is none of KINDS.
    """
    raw = _read(path)
    known = {
        "name", "kind", "areas", "prompts", "conversations", "deployments", "slots", "person_slots",
        "deployment_slots", "system", "style",
    }  # fmt: skip
    if unknown := set(raw) - known:
        raise ValueError(f"{path}: unknown keys {sorted(unknown)}, expected some of {sorted(known)}")
    if raw.get("kind") not in KINDS:
        raise ValueError(f"{path}: kind is {raw.get('kind')!r}, expected one of {sorted(KINDS)}")
    if raw.get("name") != path.stem:
        raise ValueError(f"{path}: name is {raw.get('name')!r}, expected the file's own name {path.stem!r}")
    conversations = [(text,) for text in raw.get("prompts", ())] + [
        tuple(turns) for turns in raw.get("conversations", ())
    ]
    slots = {name: tuple(str(value) for value in values) for name, values in raw.get("slots", {}).items()}
    family = Family(
        name=raw["name"],
        label=KINDS[raw["kind"]],
        kind=raw["kind"],
        areas=tuple(raw.get("areas", ())),
        conversations=tuple(conversations),
        deployments=tuple(raw.get("deployments", ())),
        slots=slots,
        person_slots=tuple(raw.get("person_slots", ())),
        deployment_slots=tuple(raw.get("deployment_slots", ())),
        system=tuple(raw.get("system", ())),
        style=Style(**raw.get("style", {})),
    )
    _check_slots(family, path)
    return family


def _read(path: Path) -> dict[str, Any]:
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as fault:
        raise ValueError(f"{path}: {' '.join(str(fault).split())}") from fault
    if not isinstance(raw, dict):
        raise ValueError(f"{path}: holds a {type(raw).__name__}, expected a mapping")
    return raw


def expand(family: Family, *, n_prompts: int, n_persons: int = 1, seed: int = 0) -> tuple[StarterPrompt, ...]:
    """Expand a family into at most `n_prompts` prompts. No two conversations begin alike once digits are removed; later
    turns may come again, since people do say "thanks" and "shorter" twice. Software never sends one input twice.

    Fewer come back when the grammar runs dry; the caller decides whether that matters.
    """
    seen: set[str] = set()
    prompts: list[StarterPrompt] = []
    for person in range(n_persons):
        rng = random.Random(f"{seed}/{family.name}/{person}")  # noqa: S311 - variety, not secrecy
        own = {slot: _fill("{" + slot + "}", family, rng, {}) for slot in family.person_slots}
        quota = n_prompts * (person + 1) // n_persons
        prompts.extend(_person(family, f"{family.name}-{person:02d}", own, rng, seen, quota - len(prompts)))
    return tuple(prompts)


def _person(
    family: Family, person: str, own: Mapping[str, str], rng: random.Random, seen: set[str], quota: int
) -> Iterator[StarterPrompt]:
    made, fruitless, conversation = 0, 0, 0
    while made < quota and fruitless < 400:
        bound = dict(own)
        system = _fill(rng.choice(family.system), family, rng, bound) if family.system else None
        turn = 0
        for text in _texts(family, rng, bound):
            key = _DIGITS.sub("", text)
            if family.deployments and key in seen:
                continue
            if not text or made >= quota or (turn == 0 and key in seen):
                break
            seen.add(key)
            yield StarterPrompt(family.name, person, f"{person}-{conversation:04d}", turn, text, system)
            turn, made = turn + 1, made + 1
        fruitless = 0 if turn else fruitless + 1
        conversation += bool(turn)


def _texts(family: Family, rng: random.Random, bound: dict[str, str]) -> Iterator[str]:
    """The prompts of one conversation. Turns of a talk share all slots, inputs of a deployment those drawn for it."""
    if not family.deployments:
        for template in rng.choice(family.conversations):
            yield _roughen(_fill(template, family, rng, bound), family.style, rng).strip()
        return
    for slot in family.deployment_slots:
        _fill("{" + slot + "}", family, rng, bound)
    template = rng.choice(family.deployments)
    for _ in range(rng.randint(*_DEPLOYMENT_SIZES)):
        yield _roughen(_fill(template, family, rng, dict(bound)), family.style, rng).strip()


def _fill(template: str, family: Family, rng: random.Random, bound: dict[str, str], depth: int = 0) -> str:
    if depth > _MAX_DEPTH:
        raise ValueError(f"family {family.name!r}: slots nest deeper than {_MAX_DEPTH}, at {template[:40]!r}")

    def value(match: re.Match[str]) -> str:
        low, high, slot, nth, choice = match.groups()
        if low is not None:
            return str(rng.randint(int(low), int(high)))
        if choice is not None:
            return _fill(rng.choice(choice.split("|")), family, rng, bound, depth + 1)
        key = f"{slot}.{nth}" if nth else slot
        if key not in bound:
            taken = {bound[other] for other in bound if other.split(".")[0] == slot}
            for _ in range(8):
                inner = _own(family.deployment_slots, bound) if family.deployments else bound
                drawn = _fill(rng.choice(family.slots[slot]), family, rng, inner, depth + 1)
                if drawn not in taken:
                    break
            bound[key] = drawn
        return bound[key]

    return _TOKEN.sub(value, template)


def _own(slots: tuple[str, ...], bound: Mapping[str, str]) -> dict[str, str]:
    return {slot: bound[slot] for slot in slots if slot in bound}


def _roughen(text: str, style: Style, rng: random.Random) -> str:
    if style.lowercase and rng.random() < style.lowercase:
        text = text.lower()
    if style.no_final_punctuation and rng.random() < style.no_final_punctuation:
        text = text.rstrip(".!")
    if style.typos:
        text = "".join(_mistype(letter, rng) if rng.random() < style.typos else letter for letter in text)
    return text


def _mistype(letter: str, rng: random.Random) -> str:
    if not letter.isalpha():
        return letter
    return rng.choice(("", letter + letter, _KEYBOARD.get(letter, letter)))


def _check_slots(family: Family, path: Path) -> None:
    if bool(family.conversations) == bool(family.deployments):
        raise ValueError(f"{path}: expected either deployments, or prompts and conversations")
    texts = [text for turns in family.conversations for text in turns] + list(family.deployments + family.system)
    texts += [value for values in family.slots.values() for value in values]
    used = {slot for text in texts for slot in _SLOT.findall(text)}
    used |= set(family.person_slots + family.deployment_slots)
    if missing := used - set(family.slots):
        raise ValueError(f"{path}: undefined slots {sorted(missing)}")
    if empty := [name for name, values in family.slots.items() if not values]:
        raise ValueError(f"{path}: slots without values {sorted(empty)}")
