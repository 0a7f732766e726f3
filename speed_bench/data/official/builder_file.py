"""The prompt texts of the official recipe, out of the official builder's own file.

They are its authors' and not copied here. The file is pinned by its sha256 and parsed, never executed: a text is a
constant, an f-string or a sum of such, found by the function and the variable that hold it.
"""

import ast
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from speed_bench.data.caches import cache_folder
from speed_bench.data.official.templates import Hole, Template
from speed_bench.data.schema import PLACEHOLDER
from speed_bench.data.sources.shelf import Shelf
from speed_bench.data.sources.web import Web
from speed_bench.errors import DataError

REPOSITORY: Final = "NVIDIA/Model-Optimizer"
COMMIT: Final = "a2fbac7bad8ab446d3f8783dadb0c3366eb0ad73"
PATH: Final = "examples/specdec_bench/specdec_bench/datasets/speed.py"
SHA256: Final = "c0b24776b7ceb7f5eba74b945a132c2a2c860121d08599ac791d0715b513602a"
URL: Final = f"https://raw.githubusercontent.com/{REPOSITORY}/{COMMIT}/{PATH}"


@dataclass(frozen=True, slots=True)
class Prompts:
    """The texts, each with the holes that its field names here say or its comment lists."""

    padding: str
    """Repeated after a prompt that is too short."""
    dialogue: Template
    """BAMBOO: {content}, the parts below."""
    dialogue_part: Template
    """{i}, from 1, and {content}."""
    between_dialogues: str
    stack_opening: Template
    """StackSelect: {question}."""
    stack_answer: Template
    """{i}, from 1, and {answer}."""
    stack_closing: str
    sort_instruction: str
    """TextSort: what Ada-LEval says, to be replaced."""
    sort_replacement: str
    retrieval: Template
    """ChatRAG: {context}, {question}."""
    between_passages: str
    character: Template
    """CoSER: what `_OF_A_CHARACTER` lists."""
    other_character: Template
    """{character_name}, {character_profile}."""
    between_characters: str
    no_motivation: str
    choice_header: Template
    """MMLU-Pro: {subject}."""
    choice_question: Template
    """{question}, {options_str}."""
    choice_option: Template
    """{letter}, {option}."""
    between_options: str
    expert_opening: Template
    """Humanity's Last Exam: {category}."""
    expert_example: Template
    """{question}, {rationale}."""


def read(path: Path | None) -> bytes:
    """The pinned file: a local copy, or what was fetched once from its repository. Raises DataError for any other."""
    if path is None:
        return Shelf(cache_folder("sources")).get(URL, _fetch).path.read_bytes()
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; --builder-file takes a copy of {URL}") from error
    _require_pinned(content, str(path))
    return content


def _fetch(path: Path) -> dict[str, str]:
    Web().fetch(URL, path)
    _require_pinned(path.read_bytes(), "what was fetched")
    return {}


def _require_pinned(content: bytes, what: str) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256:
        raise DataError(
            f"{what} is not the official builder that is followed here: its sha256 is {found}, and that of {URL} is "
            f"{SHA256}"
        )


def prompts(content: bytes) -> Prompts:
    """The texts of a builder file. Raises DataError, which names the text, where one is not found."""
    try:
        file = _File(ast.parse(content))
    except (SyntaxError, ValueError) as error:
        raise DataError(f"the builder file is not Python: {error}") from error
    if not any(isinstance(node, ast.Constant) and node.value == PLACEHOLDER for node in ast.walk(file.tree)):
        raise DataError("the builder file does not know the placeholder that the published rows hold")
    dialogue = file.function("_generate_writing_prompt", "the dialogues of BAMBOO")
    between_dialogues, dialogue_part = dialogue.joined("content", "i", "content")
    stack = file.function("_generate_stackselect_prompt", "Ada-LEval StackSelect")
    sort = file.function("_generate_textsort_prompt", "Ada-LEval TextSort")
    retrieval = file.function("_generate_chatrag_bench_prompt", "ChatRAG-Bench")
    character = file.function("_generate_coser_prompt", "CoSER")
    between_characters, other = character.joined("other_character_profiles_str", "character_name", "character_profile")
    choice = file.function("_generate_mmlu_pro_prompt", "MMLU-Pro")
    asked = file.function("get_question_and_options", "the questions of MMLU-Pro")
    between_options, option = asked.joined("options_str", "letter", "option")
    expert = file.function("_generate_hle_prompt", "Humanity's Last Exam")
    return Prompts(
        padding=file.function("_pad_or_truncate_prompt", "the padding").default("padding"),
        dialogue=dialogue.text("prompt", "content"),
        dialogue_part=dialogue_part,
        between_dialogues=between_dialogues,
        stack_opening=stack.text("prompt", "question"),
        stack_answer=stack.text("answer_to_add", "i", "answer"),
        stack_closing=stack.constant("end_prompt"),
        sort_instruction=sort.constant("original_instruction"),
        sort_replacement=sort.constant("new_instruction"),
        retrieval=retrieval.format("prompt", "context", "question"),
        between_passages=retrieval.joined("context", "text")[0],
        character=character.format("prompt", *_OF_A_CHARACTER),
        other_character=other,
        between_characters=between_characters,
        no_motivation=character.fallback("motivation"),
        choice_header=choice.format("prompt", "subject"),
        choice_question=asked.returned("question", "options_str"),
        choice_option=option,
        between_options=between_options,
        expert_opening=expert.text("prompt", "category"),
        expert_example=file.column("demonstration", "question", "rationale"),
    )


_OF_A_CHARACTER: Final = (
    "character",
    "book_name",
    "character_profile",
    "scenario",
    "other_character_profiles_str",
    "motivation",
)


@dataclass(frozen=True, slots=True)
class _Function:
    """A function of the builder, and what its prompt is called in a sentence."""

    node: ast.FunctionDef
    what: str

    def text(self, variable: str, *names: str) -> Template:
        """What a variable holds before the first loop, or else where it is first assigned."""
        straight: ast.expr | None = None
        for statement in self.node.body:
            if isinstance(statement, ast.For | ast.While):
                break
            match statement:
                case ast.Assign(targets=[ast.Name(id=name)], value=value) if name == variable:
                    straight = value
                case ast.AugAssign(target=ast.Name(id=name), op=ast.Add(), value=value) if name == variable:
                    straight = value if straight is None else ast.BinOp(straight, ast.Add(), value)
        return self._checked(variable, straight if straight is not None else self._assigned(variable), names)

    def constant(self, variable: str) -> str:
        """A text without holes."""
        return self.text(variable).fill({})

    def format(self, variable: str, *names: str) -> Template:
        """A text that the builder gives to `str.format`."""
        template = Template.parse(self.constant(variable), names)
        return self._complete(variable, template, names)

    def returned(self, *names: str) -> Template:
        """What the function returns."""
        found = [node.value for node in ast.walk(self.node) if isinstance(node, ast.Return) and node.value]
        return self._checked("return", found[0] if found else None, names)

    def default(self, argument: str) -> str:
        """The text that an argument has where none is given."""
        given = self.node.args
        with_default = given.args[len(given.args) - len(given.defaults) :]
        pairs = zip(with_default, given.defaults, strict=True)
        found = [value for name, value in pairs if name.arg == argument]
        return self._checked(argument, found[0] if found else None, ()).fill({})

    def joined(self, variable: str, *names: str) -> tuple[str, Template]:
        """Of a variable that joins parts: what stands between them, and one of them."""
        match self._assigned(variable):
            case ast.Call(
                func=ast.Attribute(value=ast.Constant(value=str(between)), attr="join"),
                args=[ast.ListComp(elt=part) | ast.GeneratorExp(elt=part)],
            ):
                return between, self._checked(variable, part, names)
        raise self._missing(variable)

    def fallback(self, variable: str) -> str:
        """What a variable holds where `next` finds nothing."""
        match self._assigned(variable):
            case ast.Call(func=ast.Name(id="next"), args=[_, ast.Constant(value=str(text))]):
                return text
        raise self._missing(variable)

    def _assigned(self, variable: str) -> ast.expr | None:
        for node in ast.walk(self.node):
            match node:
                case ast.Assign(targets=[ast.Name(id=name)], value=value) if name == variable:
                    return value
        return None

    def _checked(self, variable: str, value: ast.expr | None, names: tuple[str, ...]) -> Template:
        if value is None:
            raise self._missing(variable)
        return self._complete(variable, Template(tuple(_merged(_parts(value)))), names)

    def _complete(self, variable: str, template: Template, names: tuple[str, ...]) -> Template:
        if template.names != set(names):
            has = ", ".join(sorted(template.names)) or "none"
            raise DataError(
                f"the builder file's prompt of {self.what} has the holes {has} in '{variable}', where "
                f"{', '.join(names) or 'none'} are expected"
            )
        return template

    def _missing(self, variable: str) -> DataError:
        return DataError(f"the builder file lacks the prompt of {self.what}: no text '{variable}' in {self.node.name}")


@dataclass(frozen=True, slots=True)
class _File:
    tree: ast.Module

    def function(self, name: str, what: str) -> _Function:
        """The function of a name, wherever it is defined."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.FunctionDef) and node.name == name:
                return _Function(node, what)
        raise DataError(f"the builder file lacks the prompt of {what}: no function {name}")

    def column(self, column: str, *names: str) -> Template:
        """The text that a column of a table is made of, row by row, by a lambda."""
        for node in ast.walk(self.tree):
            match node:
                case ast.Assign(
                    targets=[ast.Subscript(slice=ast.Constant(value=name))],
                    value=ast.Call(args=[ast.Lambda(body=body), *_]),
                ) if name == column:
                    template = Template(tuple(_merged(_parts(body))))
                    if template.names == set(names):
                        return template
        raise DataError(f"the builder file lacks the examples of Humanity's Last Exam: no column '{column}' of texts")


def _parts(node: ast.expr) -> list[str | Hole]:
    """The texts and holes of an expression; what is no text is a hole, named by its name or key."""
    match node:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.JoinedStr(values=values):
            return [part for value in values for part in _parts(value)]
        case ast.FormattedValue(value=value, conversion=-1, format_spec=None):
            return [_hole(value)]
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return [*_parts(left), *_parts(right)]
    return [_hole(node)]


def _hole(node: ast.expr) -> Hole:
    match node:
        case ast.Name(id=name) | ast.BinOp(left=ast.Name(id=name), op=ast.Add(), right=ast.Constant(value=1)):
            return Hole(name)
        case ast.Subscript(slice=ast.Constant(value=str(key))):
            return Hole(key)
    return Hole(ast.unparse(node))


def _merged(parts: list[str | Hole]) -> list[str | Hole]:
    """Neighbouring texts as one."""
    merged: list[str | Hole] = []
    for part in parts:
        if isinstance(part, str) and merged and isinstance(merged[-1], str):
            merged[-1] += part
        else:
            merged.append(part)
    return merged
