"""What is wrong with a file, in plain sentences with key paths, made of what pydantic reports.

A secret is never shown, also where it is in the wrong place or of the wrong kind.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from edge_agent.errors import Finding

LONGEST = 60
"""How many characters of a value are shown."""
SECRET = re.compile(r"(^|[._])(key|keys|secret|secrets|password|pin|token|database_url)(\b|_)")
"""Key paths whose values are not shown; ids of cards are another."""
CARD = re.compile(r"^credentials\.[^.]+\.id$")
KINDS = {
    "string_type": "a text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
}
"""What a value has to be, by pydantic's type of error."""
TIME = "a time with its zone, such as 2026-11-30T10:00:00Z"
JSON_KINDS = {
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type"), "a JSON object"),
    **dict.fromkeys(("datetime_type", "datetime_parsing", "datetime_from_date_parsing"), TIME),
    **dict.fromkeys(("datetime_object_invalid", "timezone_aware"), TIME),
    "json_invalid": "JSON",
    "json_type": "JSON",
}
"""Where the words for JSON differ from those for files, or files have no such value."""
LIMITS = {
    "greater_than_equal": ("at least {0}", "ge"),
    "greater_than": ("more than {0}", "gt"),
    "less_than_equal": ("at most {0}", "le"),
    "less_than": ("less than {0}", "lt"),
    "multiple_of": ("a multiple of {0}", "multiple_of"),
}
ONE_OF = "one of "
MEMBER = re.compile(r"<\w+\.\w+: ('[^']*')>")
"""A member of an enumeration as Python shows it, with its value."""
EMPTY = "must not be empty"
LENGTHS = {
    "string_too_short": ("must have at least {0} characters", "min_length"),
    "string_too_long": ("must have at most {0} characters", "max_length"),
    "too_short": ("must have at least {0} entries", "min_length"),
    "too_long": ("must have at most {0} entries", "max_length"),
}
EITHER = {("a whole number", "a list"): "a whole number or a list"}
"""In one sentence what may be one or the other."""
PATTERNS = {
    r"^[A-Za-z0-9_-]+$": "letters, digits, - and _",
    r"^[A-Za-z0-9_-]{1,64}$": "1 to 64 letters, digits, - and _",
    r"^[A-Za-z0-9_.@$-]+$": "letters, digits and any of _ . @ $ -",
    r"^[A-Za-z0-9_]+$": "letters, digits and _",
    r"^[0-9]{4,9}$": "4 to 9 digits",
    r"^[^\s/.][^\s/]*$": "a name or an address",
    r"^/[!-~]*$": "a path that begins with /",
    r"^[^\x00]+$": "a file name",
}
"""What the patterns of texts mean."""


def field_path(location: Sequence[int | str]) -> str:
    """The location of a validation error as a path: `packaging.width`, `cells[3].label`."""
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path


def findings_of(error: ValidationError, document: object) -> list[Finding]:
    """Each key that is wrong, once, with what it must be and what it is. `document`: what was validated."""
    found: dict[tuple[int | str, ...], list[_Problem]] = {}
    for item in error.errors(include_url=False):
        problem = _problem(item, document)
        found.setdefault(problem.path, []).append(problem)
    return [
        Finding(field_path(path), _joined(problems))
        for path, problems in found.items()
        if not (problems[0].one_of_several and _has_deeper(path, found))
    ]


def sentence_of(item: Mapping[str, Any]) -> str:
    """What a value of a JSON document must be, by one of pydantic's findings; without the value."""
    kind, context = item["type"], item.get("ctx", {})
    wanted = JSON_KINDS.get(kind) or _wanted(kind, context)
    return _must_be(wanted, "") if wanted else _sentence(item)


@dataclass(frozen=True, slots=True)
class _Problem:
    """`wanted`: what the value must be, or empty; `instead`: the value, or empty where it is not shown;
    `one_of_several`: it is one way among others to be right."""

    path: tuple[int | str, ...]
    sentence: str
    wanted: str = ""
    instead: str = ""
    one_of_several: bool = False


def _has_deeper(path: tuple[int | str, ...], paths: Mapping[tuple[int | str, ...], object]) -> bool:
    return any(len(other) > len(path) and other[: len(path)] == path for other in paths)


def _joined(problems: Sequence[_Problem]) -> str:
    """One sentence for all ways in which the value of one key could be right."""
    wanted = tuple(dict.fromkeys(problem.wanted for problem in problems))
    if wanted in EITHER:
        return _must_be(EITHER[wanted], problems[0].instead)
    return "; ".join(dict.fromkeys(problem.sentence for problem in problems))


def _must_be(wanted: str, instead: str) -> str:
    if wanted.startswith(ONE_OF):
        known = wanted.removeprefix(ONE_OF)
        return f"must be one of {known}, not {instead}" if instead else f"must be one of {known}"
    return f"must be {wanted}, not {instead}" if instead else f"must be {wanted}"


def _problem(item: Mapping[str, Any], document: object) -> _Problem:
    kind, context = item["type"], item.get("ctx", {})
    path, several, of_name = _keys(item["loc"], document, missing=kind == "missing")
    instead = _value(item["input"]) if of_name or _may_be_shown(path) else ""
    wanted = _wanted(kind, context)
    sentence = _must_be(wanted, instead) if wanted else _sentence(item)
    if of_name:
        return _Problem(path, f"its name {sentence}")
    return _Problem(path, sentence, wanted, instead, several)


def _wanted(kind: str, context: Mapping[str, Any]) -> str:
    if kind in KINDS:
        return KINDS[kind]
    if kind in LIMITS:
        text, name = LIMITS[kind]
        limit = context[name]
        return text.format(f"{limit:g}" if isinstance(limit, float) else limit)
    if kind in ("literal_error", "enum"):
        known = MEMBER.sub(r"\1", str(context["expected"])).replace(" or ", ", ").replace("'", '"')
        return ONE_OF + known if "," in known else known
    if kind == "string_pattern_mismatch":
        return PATTERNS.get(context["pattern"], f"a text that matches {context['pattern']}")
    return ""


def _sentence(item: Mapping[str, Any]) -> str:
    kind, context = item["type"], item.get("ctx", {})
    if kind == "missing":
        return "is missing"
    if kind == "extra_forbidden":
        return "unknown key"
    if kind in LENGTHS:
        text, name = LENGTHS[kind]
        if kind.endswith("_short") and context[name] == 1:
            return EMPTY
        return text.format(context[name])
    if kind == "union_tag_not_found":
        return f"{context['discriminator'].strip(chr(39))} is missing"
    if kind == "union_tag_invalid":
        name = context["discriminator"].strip("'")
        known = context["expected_tags"].replace("'", '"')
        return f"{name} must be one of {known}, not {_value(context['tag'])}"
    message: str = item["msg"]
    message = message.removeprefix("Value error, ").removeprefix("Assertion failed, ").removeprefix("Input ")
    message = message.replace("should ", "must ", 1) if message.startswith("should ") else message
    return message[:1].lower() + message[1:] if message[1:2].islower() else message


def _keys(
    location: Sequence[int | str], document: object, *, missing: bool
) -> tuple[tuple[int | str, ...], bool, bool]:
    """The keys of a location: pydantic's names for the members of a union are left out. Then, whether the
    last part was such a name, and whether the problem is the name of a key."""
    path: list[int | str] = []
    here, of_name, several = document, False, False
    for number, part in enumerate(location):
        several = False
        if part == "[key]":
            of_name = True
        elif (inner := _inside(here, part)) is not None:
            path.append(part)
            (here,) = inner
        elif missing and number == len(location) - 1:
            path.append(part)
        else:
            several = True
    return tuple(path), several, of_name


def _inside(value: object, part: int | str) -> tuple[object] | None:
    """What a table or a list has at this key or place; None if there is none."""
    if isinstance(value, Mapping) and part in value:
        return (value[part],)
    if isinstance(value, list) and isinstance(part, int) and part < len(value):
        return (value[part],)
    return None


def _may_be_shown(path: Sequence[int | str]) -> bool:
    text = field_path(path)
    return SECRET.search(text) is None and CARD.match(text) is None


def _value(value: object) -> str:
    """A value as it stands in the file; of what has parts or is long, only what it is."""
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, list | tuple):
        return "a list"
    plain = isinstance(value, str | bool | int | float)
    text = json.dumps(value, ensure_ascii=False) if plain else str(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
