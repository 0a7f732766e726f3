"""Prompt texts are read out of a builder file, which is never run, and nothing but the pinned file is read."""

from pathlib import Path

import pytest
from official import BUILDER, SHA256

from speed_bench.data.official import builder_file
from speed_bench.data.official.templates import Hole, Template
from speed_bench.errors import DataError


def test_every_text_is_found_with_its_white_space_and_its_holes() -> None:
    found = builder_file.prompts(BUILDER.encode())
    assert found.padding == "Go on, then.\n"
    assert found.dialogue.fill({"content": "*"}) == "\nCarry these talks on. \n\n*\n"
    assert found.dialogue_part.fill({"i": 1, "content": "*"}) == "<1>\n*\n</>"
    assert found.between_dialogues == "\n--\n"
    assert found.stack_opening.fill({"question": "*"}) == (
        "\nPick the reply that helps most.   \nAsked:\n*\n~\nReplies:\n"
    )
    assert found.stack_answer.fill({"i": 2, "answer": "*"}) == "A2 = *\n"
    assert found.stack_closing == "Name the best one. \nSay why.\n"
    assert found.sort_instruction == "\n  Put the parts in order. \n"
    assert found.sort_replacement == "\nWrite the parts out in order.  \n"
    assert found.retrieval.names == {"context", "question"}
    assert found.character.fill(dict.fromkeys(found.character.names, "*")) == (
        "Be * of *.\n[*]\n*\n[Where]\n*\n[Others]\n*\n[Wish]\n*"
    )
    assert found.no_motivation == "nothing in particular"
    assert found.choice_header.fill({"subject": "*"}) == "About *. End with {letter}.\n"
    assert found.choice_question.fill({"question": "*", "options_str": "-"}) == "Q: *\nO: -\n"
    assert found.choice_option.parts == ("[", Hole("letter"), "] ", Hole("option"))
    assert found.expert_opening.fill({"category": "*"}) == "Answer the last one.\n\nFirst some others of *:\n\n"
    assert found.expert_example.fill({"question": "*", "rationale": "-"}) == "Asked: *\nTold: -\n\n"


def test_a_file_is_parsed_and_never_run(tmp_path: Path) -> None:
    proof = tmp_path / "ran"
    harmful = f"open({str(proof)!r}, 'w')\n" + BUILDER.replace('"Go on, then.\\n"', "open('x')")
    with pytest.raises(DataError, match=r"prompt of the padding has the holes open"):
        builder_file.prompts(harmful.encode())
    assert not proof.exists()


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("_generate_writing_prompt", "_write", "lacks the prompt of the dialogues of BAMBOO"),
        ("answer_to_add =", "added =", "StackSelect: no text 'answer_to_add'"),
        ("new_instruction =", "instruction =", "TextSort: no text 'new_instruction'"),
        ("{content}\\n</>", "{content!r}\\n</>", "BAMBOO has the holes"),
        ("{context}", "{passages}", "its template has '{passages}'"),
        ("{scenario}\n", "", "CoSER has the holes"),
        ('"nothing in particular"', "None", "CoSER: no text 'motivation'"),
        ("get_question_and_options(question", "get(question", "the questions of MMLU-Pro"),
        ('"demonstration"', '"example"', "lacks the examples of Humanity's Last Exam"),
        ('e["rationale"]', 'e["answer"]', "lacks the examples of Humanity's Last Exam"),
        ('"\\n***\\n".join([ctx["text"] for', 'list([ctx["text"] for', "ChatRAG-Bench: no text 'context'"),
        ("FULL BENCHMARK DATA", "ALL DATA", "does not know the placeholder"),
        ("class Builder:", "class Builder", "is not Python"),
    ],
)
def test_a_text_that_is_not_where_it_should_be_is_named(before: str, after: str, said: str) -> None:
    changed = BUILDER.replace(before, after)
    assert changed != BUILDER
    with pytest.raises(DataError) as error:
        builder_file.prompts(changed.encode())
    assert said in str(error.value)


def test_only_the_pinned_file_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "speed.py"
    file.write_text(BUILDER)
    with pytest.raises(DataError, match=f"is not the official builder .* sha256 is {SHA256}, and that of https://raw"):
        builder_file.read(file)
    with pytest.raises(DataError, match="--builder-file takes a copy of https://raw"):
        builder_file.read(tmp_path / "other.py")
    monkeypatch.setattr(builder_file, "SHA256", SHA256)
    assert builder_file.read(file).decode() == BUILDER


def test_a_template_prints_a_mapping_whole_or_one_value_of_it() -> None:
    pair = {"question": {"de": "Flut", "en": "tide"}}
    assert Template.parse("{question}", ["question"]).fill(pair) == "{question}".format(**pair)
    assert Template.parse("{question[de]}", ["question"]).fill(pair) == "{question[de]}".format(**pair)
