"""Where thinking ends, format by format, and what later turns carry of it."""

import json
from pathlib import Path

import pytest
from reasoners import (
    CHANNELS,
    CUTS_CONTENT,
    DROPS_FIELD,
    EOS,
    HARMONY_TOKENS,
    PARTS,
    PLAIN,
    READS_FIELD,
    SHOWS_FIELD,
    template,
    tokenizer_of,
)
from tokenizers import AddedToken, Tokenizer, models

from speed_bench.errors import TokenError
from speed_bench.models import resolve_gguf
from speed_bench.reasoning import FORMATS, detect, prompt_state, recorded_state, split
from speed_bench.tokens import ChatTokenizer

ROOT = Path(__file__).parent.parent.parent
THINK = ("<think>", "</think>")
BY_NAME = {known.name: known for known in FORMATS}


def parts(tokenizer: ChatTokenizer, output: str, prompt: str = "<u>Hi<a>") -> tuple[int, str, str]:
    """(tokens of the thinking, its text, the answer's) of an output, and the same again from the recorded number."""
    prompt_ids, ids = tokenizer.encode(prompt), tokenizer.encode(output)
    num = tokenizer.num_thinking_tokens(prompt_ids, ids)
    found = split(tokenizer.reasoning, ids, recorded_state(num), tokenizer._marked)
    assert found.num_thinking_tokens == num
    return num, found.thinking, found.answer


def carried(tokenizer: ChatTokenizer, output: str, prompt: str = "<u>Hi<a>", **template_args: object) -> str:
    """What the next prompt shows between the first user's turn and the second."""
    ids = tokenizer.encode(output)
    message = tokenizer.answer_message(ids, tokenizer.num_thinking_tokens(tokenizer.encode(prompt), ids))
    text = tokenizer.chat_text([("user", "Hi"), message, ("user", "Bye")], template_args)
    return text.removeprefix("<u>Hi<a>").partition("<u>Bye")[0].removesuffix(EOS)


class TestDetect:
    @pytest.mark.parametrize("known", FORMATS, ids=lambda known: known.name)
    def test_a_template_that_names_the_closing_marker_has_the_format(self, known) -> None:
        assert detect(f"... {known.written[1]} ...", lambda text: False) is known

    @pytest.mark.parametrize("known", FORMATS, ids=lambda known: known.name)
    def test_a_vocabulary_with_its_tokens_has_the_format(self, known) -> None:
        assert detect("{{ messages }}", set(known.tokens).__contains__) is known

    def test_the_template_decides_before_the_vocabulary(self) -> None:
        assert detect("x [/THINK]", set(THINK).__contains__).name == "mistral"

    def test_half_of_the_tokens_is_no_format(self) -> None:
        assert detect("{{ messages }}", {"</think>"}.__contains__) is None

    def test_a_model_that_does_not_think_has_none(self) -> None:
        tokenizer = ChatTokenizer.from_gguf(resolve_gguf("smollm2-135m-instruct"))
        ids = tokenizer.encode("Hello")
        assert tokenizer.reasoning is None
        assert tokenizer.num_thinking_tokens((), ids) is None
        assert tokenizer.answer_message(ids, None) == {"role": "assistant", "content": "Hello"}

    def test_every_format_is_in_the_docs(self) -> None:
        text = (ROOT / "docs" / "reasoning.md").read_text("utf-8")
        assert [known.name for known in FORMATS if f"| `{known.name}` |" not in text] == []


class TestPrompt:
    @pytest.mark.parametrize(
        ("name", "tail", "state"),
        [
            ("think", "<a><think>\n", "open"),
            ("think", "<a><think>", "open"),
            ("think", "<a><think>\n\n</think>\n\n", "closed"),
            ("think", "<a></think>", "closed"),
            ("think", "what is <think><a>", None),
            ("think", "<a>", None),
            ("seed", "<seed:think><seed:cot_budget_reflect>", "open"),
            ("gemma", "<|turn>model\n<|channel>thought\n<channel|>", "closed"),
            ("gemma", "<|turn>model\n<|channel>thought\n", "open"),
            ("harmony", "<|start|>assistant", None),
            ("harmony", "<|start|>assistant<|channel|>analysis<|message|>", "open"),
            ("harmony", "<|start|>assistant<|channel|>final<|message|>", "closed"),
            ("apriel", "<|begin_assistant|>\nHere are my reasoning steps:\n", "open"),
        ],
    )
    def test_its_end_says_whether_thinking_is_open(self, name: str, tail: str, state: str | None) -> None:
        assert prompt_state(BY_NAME[name], tail) == state


@pytest.mark.parametrize("special", [True, False], ids=["special", "added"])
class TestOneToken:
    """Both markers are tokens of their own, special (not in the plain text) or only added."""

    def make(self, special: bool) -> ChatTokenizer:
        return tokenizer_of(READS_FIELD, special=THINK if special else (), added=() if special else THINK)

    def test_the_model_opens_and_closes(self, special: bool) -> None:
        tokenizer = self.make(special)
        assert parts(tokenizer, f"<think>so</think>\n\nyes{EOS}") == (4, "so", "\n\nyes")
        assert parts(tokenizer, f"\n<think>so</think>yes{EOS}") == (5, "so", "yes")

    def test_the_prompt_has_opened(self, special: bool) -> None:
        tokenizer = self.make(special)
        assert parts(tokenizer, "so</think>yes", "<u>Hi<a><think>\n") == (3, "so", "yes")
        assert parts(tokenizer, "</think>yes", "<u>Hi<a><think>\n") == (1, "", "yes")
        assert parts(tokenizer, "<think>so</think>yes", "<u>Hi<a><think>\n") == (4, "so", "yes")

    def test_thinking_that_is_never_closed_is_all(self, special: bool) -> None:
        tokenizer = self.make(special)
        assert parts(tokenizer, "<think>so and", "<u>Hi<a>") == (7, "so and", "")
        assert parts(tokenizer, f"so and{EOS}", "<u>Hi<a><think>\n") == (7, "so and", "")

    def test_without_thinking_there_is_none(self, special: bool) -> None:
        tokenizer = self.make(special)
        assert parts(tokenizer, f"yes{EOS}") == (0, "", "yes")
        assert parts(tokenizer, "yes", "<u>Hi<a><think>\n\n</think>\n\n") == (0, "", "yes")

    def test_a_model_may_leave_the_first_marker_out(self, special: bool) -> None:
        tokenizer = self.make(special)
        assert parts(tokenizer, "so</think>yes") == (3, "so", "yes")
        assert parts(tokenizer, "so</think>yes", "<u>Hi<a><think></think>")[0] == 0

    def test_a_closing_marker_before_anything_else_closes_nothing(self, special: bool) -> None:
        assert parts(self.make(special), "</think>yes") == (0, "", "yes")

    def test_an_answer_about_the_markers_is_an_answer(self, special: bool) -> None:
        text = "use <think> and </think>"
        assert parts(self.make(special), text) == (0, "", text)

    def test_a_user_who_writes_the_marker_opens_nothing(self, special: bool) -> None:
        assert parts(self.make(special), "yes", "<u>what is <think><a>") == (0, "", "yes")

    def test_the_first_closing_marker_counts(self, special: bool) -> None:
        assert parts(self.make(special), "<think>a</think>b</think>c")[:2] == (3, "a")

    def test_tokens_without_a_name_count_where_they_stand(self, special: bool) -> None:
        tokenizer = self.make(special)
        ids = [*tokenizer.encode("<think>so"), None, *tokenizer.encode("</think>"), None, *tokenizer.encode("yes")]
        assert tokenizer.num_thinking_tokens((), ids) == 5
        assert tokenizer.num_thinking_tokens((), [None, None]) == 0
        assert tokenizer.num_thinking_tokens(tokenizer.encode("<think>"), [None, None]) == 2


class TestSeveralTokens:
    """No marker is a token: the boundary is that of the token which holds its last character."""

    def test_the_token_that_completes_the_marker_is_the_last_of_the_thinking(self) -> None:
        tokenizer = tokenizer_of(READS_FIELD)
        output = tokenizer.encode("<think>ab</think>\nyes")
        assert len(output) == len(tokenizer.encode("<think>ab</think>")) + len("yes")  # `>\n` is one token
        assert parts(tokenizer, "<think>ab</think>\nyes") == (len(output) - len("yes"), "ab", "\nyes")
        assert parts(tokenizer, "<think>ab</think>yes") == (len(output) - len("yes"), "ab", "yes")

    def test_characters_of_several_tokens_around_it(self) -> None:
        tokenizer = tokenizer_of(READS_FIELD)
        num = len(tokenizer.encode("<think>👩</think>"))
        assert parts(tokenizer, "<think>👩</think>👩") == (num, "👩", "👩")
        ids = tokenizer.encode("<think>👩</think>👩")
        assert tokenizer.num_thinking_tokens((), ids[: num + 1]) == num

    def test_a_marker_that_is_not_whole_yet(self) -> None:
        tokenizer = tokenizer_of(READS_FIELD)
        assert parts(tokenizer, "<thi")[0] == 0
        assert parts(tokenizer, "ab</thin", "<u>Hi<a><think>\n") == (len(tokenizer.encode("ab</thin")), "ab</thin", "")


class TestHarmony:
    tokenizer = tokenizer_of(CHANNELS, special=HARMONY_TOKENS)
    final = "<|start|>assistant<|channel|>final<|message|>"

    def count(self, text: str) -> int:
        return len(self.tokenizer.encode(text))

    def test_thinking_goes_to_the_message_of_the_final_channel(self) -> None:
        thinking = f"<|channel|>analysis<|message|>so<|end|>{self.final}"
        assert parts(self.tokenizer, f"{thinking}yes<|return|>") == (self.count(thinking), "so", "yes")

    def test_commentary_before_it_is_thinking_and_not_in_its_text(self) -> None:
        thinking = (
            "<|channel|>analysis<|message|>so<|end|><|start|>assistant<|channel|>commentary<|message|>one moment<|end|>"
            f"<|start|>assistant<|channel|>analysis<|message|>then<|end|>{self.final}"
        )
        assert parts(self.tokenizer, f"{thinking}yes<|return|>") == (self.count(thinking), "so\nthen", "yes")
        thinking = f"<|channel|>commentary<|message|>one moment<|end|>{self.final}"
        assert parts(self.tokenizer, f"{thinking}yes<|return|>") == (self.count(thinking), "", "yes")

    def test_a_final_message_with_a_constraint(self) -> None:
        final = "<|start|>assistant<|channel|>final <|constrain|>json<|message|>"
        thinking = f"<|channel|>analysis<|message|>so<|end|>{final}"
        assert parts(self.tokenizer, f"{thinking}{{}}<|return|>") == (self.count(thinking), "so", "{}")

    @pytest.mark.parametrize(
        "text", ["<|channel|>commentary<|message|>one mom", " to=tool<|channel|>commentary json<|message|>{}<|call|>"]
    )
    def test_a_message_to_a_tool_or_aside_is_no_answer(self, text: str) -> None:
        assert parts(self.tokenizer, text) == (self.count(text), "", "")

    def test_without_a_final_message_all_is_thinking(self) -> None:
        text = "<|channel|>analysis<|message|>so and<|end|><|start|>assistant<|channel|>fin"
        assert parts(self.tokenizer, text) == (self.count(text), "so and", "")
        text = "<|channel|>analysis<|message|>so <|channel|"
        assert parts(self.tokenizer, text)[0] == self.count(text)

    def test_a_final_message_alone_has_no_thinking(self) -> None:
        assert parts(self.tokenizer, "<|channel|>final<|message|>yes<|return|>") == (0, "", "yes")
        assert parts(self.tokenizer, "yes<|return|>") == (0, "", "yes")

    def test_what_comes_after_the_final_message_is_no_answer(self) -> None:
        text = f"<|channel|>analysis<|message|>so<|end|>{self.final}yes<|end|><|start|>assistant"
        assert parts(self.tokenizer, text)[2] == "yes"

    def test_the_prompt_has_opened(self) -> None:
        thinking = f"so<|end|>{self.final}"
        found = parts(self.tokenizer, f"{thinking}yes", "<|start|>assistant<|channel|>analysis<|message|>")
        assert found == (self.count(thinking), "so", "yes")

    def test_later_turns_carry_the_final_message_and_no_tags(self) -> None:
        output = f"<|channel|>analysis<|message|>so<|end|>{self.final}yes<|return|>"
        assert carried(self.tokenizer, output) == f"{self.final}yes<|end|>"
        assert carried(self.tokenizer, "<|channel|>analysis<|message|>so and") == f"{self.final}<|end|>"
        ids = self.tokenizer.encode(output)
        message = self.tokenizer.answer_message(ids, len(ids) - 4)
        assert message == {"role": "assistant", "content": "yes", "thinking": "so"}


@pytest.mark.parametrize(
    ("name", "output", "thinking", "answer"),
    [
        ("mistral", "[THINK]so[/THINK]yes", "so", "yes"),
        ("cohere", "<|START_THINKING|>so<|END_THINKING|><|START_RESPONSE|>yes<|END_RESPONSE|>", "so", "yes"),
        ("cohere", "<|START_THINKING|>so<|END_THINKING|><|START_TEXT|>yes<|END_TEXT|>", "so", "yes"),
        ("seed", "<seed:think>so</seed:think>yes", "so", "yes"),
        ("gemma", "<|channel>thought\nso<channel|>yes", "so", "yes"),
        ("kimi-vl", "◁think▷so◁/think▷yes", "so", "yes"),
        ("apertus", "<|inner_prefix|>so<|inner_suffix|>yes", "so", "yes"),
        ("minimax-m3", "<mm:think>so</mm:think>yes", "so", "yes"),
        ("longcat", "<longcat_think>so</longcat_think>yes", "so", "yes"),
        ("apriel", "Here are my reasoning steps:\nso\n[BEGIN FINAL RESPONSE]yes[END FINAL RESPONSE]", "so\n", "yes"),
    ],
)
@pytest.mark.parametrize("in_vocabulary", [True, False], ids=["one token", "several"])
def test_other_formats(name: str, output: str, thinking: str, answer: str, in_vocabulary: bool) -> None:
    known = BY_NAME[name]
    marks = sorted(known.marks, key=len)
    tokenizer = tokenizer_of(
        template("{{ m.content }}", f"{{# {known.written[1]} #}}"), special=marks if in_vocabulary else ()
    )
    assert tokenizer.reasoning is known
    num, *texts = parts(tokenizer, output + EOS)
    assert texts == [thinking, answer]
    before = output[: output.index(known.written[1]) + len(known.written[1])]
    assert num == len(tokenizer.encode(before))


class TestHistory:
    def test_a_template_that_takes_inline_thinking_off_is_given_it(self) -> None:
        tokenizer = tokenizer_of(READS_FIELD, added=THINK)
        assert carried(tokenizer, f"<think>so</think>\n\nyes{EOS}") == "yes"
        tokenizer = tokenizer_of(CUTS_CONTENT, added=THINK)
        assert carried(tokenizer, f"so</think>\n\nyes{EOS}", "<u>Hi<a><think>\n") == "\n\nyes"

    def test_a_template_that_shows_thinking_is_given_its_field(self) -> None:
        tokenizer = tokenizer_of(SHOWS_FIELD)
        assert carried(tokenizer, "<seed:think>so</seed:think>yes") == "<seed:think>so</seed:think>yes"
        assert carried(tokenizer, "yes") == "yes"

    def test_a_template_that_drops_thinking_is_given_the_answer(self) -> None:
        assert carried(tokenizer_of(DROPS_FIELD, added=THINK), "<think>so</think>yes") == "<think></think>yes"
        assert carried(tokenizer_of(PLAIN, added=THINK), "<think>so</think>\nyes") == "\nyes"

    @pytest.mark.parametrize("text", [READS_FIELD, CUTS_CONTENT, DROPS_FIELD, PLAIN])
    def test_thinking_that_was_cut_leaves_an_empty_answer(self, text: str) -> None:
        tokenizer = tokenizer_of(text, added=THINK)
        assert carried(tokenizer, "<think>so and").removeprefix("<think></think>") == ""

    def test_a_template_that_refuses_an_empty_answer_is_given_an_empty_part(self) -> None:
        tokenizer = tokenizer_of(PARTS, special=("[THINK]", "[/THINK]"))
        assert carried(tokenizer, "[THINK]so[/THINK]yes") == "yes"
        assert carried(tokenizer, "[THINK]so and") == ""
        assert carried(tokenizer, EOS) == ""

    def test_an_answer_that_holds_the_marker_is_not_cut_by_the_template(self) -> None:
        tokenizer = tokenizer_of(READS_FIELD, added=THINK)
        assert carried(tokenizer, "<think>so</think>it is </think> here") == "it is </think> here"

    def test_where_nothing_was_counted_the_whole_text_is_the_answer(self) -> None:
        tokenizer = tokenizer_of(PLAIN, added=THINK)
        ids = tokenizer.encode(f"<think>so</think>yes{EOS}")
        assert tokenizer.answer_message(ids, None)["content"] == "<think>so</think>yes"

    def test_arguments_change_the_prompt(self) -> None:
        tokenizer = tokenizer_of(READS_FIELD, added=THINK)
        assert tokenizer.chat_text([("user", "Hi")], {"enable_thinking": False}).endswith("</think>\n\n")
        assert tokenizer.chat_text([("user", "Hi")]).endswith("<a>")

    def test_an_argument_that_the_template_does_not_name_is_an_error(self) -> None:
        tokenizer = tokenizer_of(READS_FIELD)
        tokenizer.check_template_args({"enable_thinking": True})
        with pytest.raises(TokenError, match="no argument 'enable_thinkin'; did you mean 'enable_thinking'"):
            tokenizer.check_template_args({"enable_thinkin": True})
        with pytest.raises(TokenError, match="no argument 'zzz'; leave it out"):
            tokenizer.check_template_args({"zzz": 1})


def test_a_hugging_face_vocabulary_of_words_shows_the_markers_too(tmp_path: Path) -> None:
    words = Tokenizer(models.WordLevel({"[UNK]": 0, "so": 1, "yes": 2, "[EOS]": 3}, unk_token="[UNK]"))  # noqa: S106
    words.add_special_tokens([AddedToken(text, special=True) for text in (*THINK, "[EOS]")])
    words.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "[EOS]"}))
    (tmp_path / "chat_template.jinja").write_text(PLAIN)
    tokenizer = ChatTokenizer.from_huggingface(str(tmp_path))
    think, close = (tokenizer.encode(text)[0] for text in THINK)
    assert tokenizer.reasoning is BY_NAME["think"]
    assert tokenizer.num_thinking_tokens((), (think, 1, close, 2, 3)) == 3
    assert tokenizer.num_thinking_tokens((2, think), (1, close, 2, 3)) == 2
    assert tokenizer.answer_message((think, 1, close, 2, 3), 3)["content"].strip() == "yes"
    assert tokenizer.decode((think, 1, close, 2, 3)) == "so yes"
