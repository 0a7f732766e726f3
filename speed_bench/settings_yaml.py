"""YAML that holds settings: of a run, of a sweep, of one flag."""

from collections.abc import Iterator
from typing import Any, Final

import yaml

from speed_bench.errors import ConfigError

MOST_VALUES: Final = 100_000
"""A few lines of aliases to aliases would unfold to more than memory holds."""


def read_yaml(text: str, where: str) -> Any:
    """Plain data: no Python object is ever made of it. `where` names it in errors.

    Raises ConfigError, also for a key that is there twice: of two, one would be passed over in silence.

    >>> read_yaml("draft_length: [1, 3]", "sweep.yaml")
    {'draft_length': [1, 3]}
    """
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _refuse_repeated_keys(node, where)
        return loader.construct_document(node)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date, or a number, that cannot be
        raise ConfigError(f"{where} is not YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise ConfigError(f"{where} is nested too deeply to be settings") from error
    finally:
        loader.dispose()


def _refuse_repeated_keys(node: yaml.Node, where: str) -> None:
    """Walks what aliases unfold to, so that it also ends what unfolds without end."""
    for num_values, each in enumerate(_values(node)):
        if num_values == MOST_VALUES:
            raise ConfigError(f"{where} unfolds to more than {MOST_VALUES:,} values, which no settings are")
        keys = [key.value for key, _ in each.value] if isinstance(each, yaml.MappingNode) else []
        names = [key for key in keys if isinstance(key, str) and key != "<<"]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ConfigError(
                f"{where}, line {each.start_mark.line + 1}: '{twice}' is there twice; leave one of them out"
            )


def _values(node: yaml.Node) -> Iterator[yaml.Node]:
    left = [node]
    while left:
        each = left.pop()
        yield each
        if isinstance(each, yaml.MappingNode):
            left.extend(value for pair in each.value for value in pair)
        elif isinstance(each, yaml.SequenceNode):
            left.extend(each.value)
