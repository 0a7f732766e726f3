"""Templates with named holes. They come from data, so filling one can do nothing but insert text."""

import re
import string
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Self

from speed_bench.errors import DataError

_FIELD = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?:\[([A-Za-z_][A-Za-z0-9_-]*)\])?")


@dataclass(frozen=True, slots=True)
class Hole:
    """Where a value goes, or what a mapping holds under a key."""

    name: str
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Template:
    """Text and holes, in order."""

    parts: tuple[str | Hole, ...]

    @classmethod
    def parse(cls, text: str, names: Collection[str]) -> Self:
        """Read what `str.format` would be given, as far as it is a name in braces or one key of it.

        Attributes, numbers, conversions, format specifications and names that are not in `names` raise DataError:
        `str.format` would follow them into whatever object stands there.

        >>> Template.parse("{{x}} {question[de]}", ["question"]).fill({"question": {"de": "ja"}})
        '{x} ja'
        """
        parts: list[str | Hole] = []
        try:
            for literal, field, spec, conversion in string.Formatter().parse(text):
                if literal:
                    parts.append(literal)
                if field is None:
                    continue
                found = _FIELD.fullmatch(field)
                if found is None or spec or conversion or found[1] not in names:
                    written = field + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "")
                    raise DataError(f"its template has '{{{written[:80]}}}', where only {_listed(names)} may stand")
                parts.append(Hole(found[1], found[2]))
        except ValueError as error:
            raise DataError(f"its template cannot be read: {error}") from error
        return cls(tuple(parts))

    @property
    def holes(self) -> frozenset[Hole]:
        """The holes, without order."""
        return frozenset(part for part in self.parts if isinstance(part, Hole))

    @property
    def names(self) -> frozenset[str]:
        """What has to be given to fill it."""
        return frozenset(hole.name for hole in self.holes)

    def fill(self, values: Mapping[str, Any]) -> str:
        """The text with a value in each hole. A mapping in a hole without key is printed whole, as Python prints it."""
        return "".join(part if isinstance(part, str) else _inserted(part, values) for part in self.parts)


def _inserted(hole: Hole, values: Mapping[str, Any]) -> str:
    value = values[hole.name]
    if hole.key is None:
        return str(value)
    if not isinstance(value, Mapping) or hole.key not in value:
        raise DataError(f"its template asks for '{hole.name}[{hole.key}]', which its record does not have")
    return str(value[hole.key])


def _listed(names: Collection[str]) -> str:
    return ", ".join("{" + name + "}" for name in sorted(names)) or "no name"
