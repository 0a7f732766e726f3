"""Token ids against the real engine's own, and laws of the round trip."""

import json
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from speed_bench.errors import ModelError, TokenError
from speed_bench.gguf_chat import build_tokenizer, end_ids, template_renderer
from speed_bench.gguf_file import read_gguf_header
from speed_bench.models import resolve_gguf
from speed_bench.tokens import PROBES, ChatTokenizer, check_parity, prompt_sha256

SERVER = """
import os, sys
os.environ["OMP_WAIT_POLICY"] = "passive"
import xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.port = sys.argv[1], int(sys.argv[2])
params.n_ctx, params.n_parallel, params.hostnames, params.ui, params.warmup = 512, 1, ["127.0.0.1"], False, False
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
server = xllamacpp.Server(params)
print("READY", flush=True)
sys.stdin.read()
os._exit(0)
"""

Post = Callable[[str, dict[str, Any]], bytes]

slow_texts = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
# Code points that Unicode has not assigned are split otherwise by llama.cpp: they are not text.
texts = st.text(alphabet=st.characters(exclude_categories=["Cs", "Cn"]), max_size=40)
# SmolLM2's vocabulary lacks the tokens of some bytes: these control characters, and leads of unassigned planes.
lost_chars = "\x04\x06\x13\x14\x16\x1d"
in_vocabulary = st.characters(exclude_categories=["Cs"], exclude_characters=lost_chars, max_codepoint=0x3FFFF)
wide_texts = st.lists(
    st.sampled_from([*"aé ñ日語👩🏽ẞ\u0301\u200d\u3000٣\n'½ 12", " 👍", "한", "🇫🇷"]), max_size=30
).map("".join)
spelled_texts = st.text(alphabet=in_vocabulary, max_size=40).filter(lambda text: "<|" not in text) | wide_texts


@contextmanager
def engine(model: Path) -> Iterator[Post]:
    """A llama.cpp server in a child process, which ends with our end of its standard input."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    argv = [sys.executable, "-c", SERVER, str(model), str(port)]
    pipe, quiet = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=quiet) as process:

        def post(path: str, body: dict[str, Any]) -> bytes:
            request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", json.dumps(body).encode())
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
                return bytes(answer.read())

        try:
            lines = iter(process.stdout.readline, b"")
            assert b"READY\n" in lines, "the engine did not start"
            yield post
        finally:
            process.stdin.close()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def tokenize_with(post: Post) -> Callable[[str], list[int]]:
    return lambda text: json.loads(post("/tokenize", {"content": text, "parse_special": True}))["tokens"]


@pytest.fixture(scope="module")
def model() -> Path:
    return resolve_gguf("smollm2-135m-instruct")


@pytest.fixture(scope="module")
def tokenizer(model: Path) -> ChatTokenizer:
    return ChatTokenizer.from_gguf(model)


@pytest.fixture(scope="module")
def post(model: Path) -> Iterator[Post]:
    with engine(model) as live:
        yield live


def write_gguf(path: Path, metadata: dict[str, Any], *, pre: str, template: str | None = None) -> Path:
    """A one-layer random model with the vocabulary of `metadata`."""
    writer = gguf.GGUFWriter(path, "llama")
    tokens = metadata["tokenizer.ggml.tokens"]
    width = 32
    writer.add_context_length(512)
    writer.add_embedding_length(width)
    writer.add_block_count(1)
    writer.add_feed_forward_length(width)
    writer.add_head_count(1)
    writer.add_rope_dimension_count(width)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types(list(metadata["tokenizer.ggml.token_type"]))
    writer.add_token_merges(metadata["tokenizer.ggml.merges"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(False)
    if template is not None:
        writer.add_chat_template(template)
    square = np.eye(width, dtype=np.float32)
    names = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"]
    tensors = {f"blk.0.{name}.weight": square for name in names}
    tensors |= {f"{name}.weight": square[0] for name in ("blk.0.attn_norm", "blk.0.ffn_norm", "output_norm")}
    tensors["token_embd.weight"] = np.zeros((len(tokens), width), dtype=np.float16)
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


class TestParity:
    def test_probes_have_the_engines_ids(self, tokenizer: ChatTokenizer, post: Post) -> None:
        check_parity(tokenizer, tokenize_with(post))

    @slow_texts
    @given(text=texts | wide_texts)
    def test_any_text_has_the_engines_ids(self, tokenizer: ChatTokenizer, post: Post, text: str) -> None:
        assert list(tokenizer.encode(text)) == tokenize_with(post)(text)

    def test_bytes_without_a_token_are_lost_as_in_the_engine(self, tokenizer: ChatTokenizer, post: Post) -> None:
        text = f"a{lost_chars}b\U00040000"
        assert list(tokenizer.encode(text)) == tokenize_with(post)(text)
        assert tokenizer.decode(tokenizer.encode(text)).startswith("ab")

    @pytest.mark.parametrize("pre", ["gpt-2", "llama-bpe", "qwen2"])
    def test_other_pre_tokenizers_have_the_engines_ids(self, model: Path, tmp_path: Path, pre: str) -> None:
        metadata = read_gguf_header(model).metadata
        path = write_gguf(tmp_path / "tiny.gguf", metadata, pre=pre, template="{{ messages[0].content }}")
        with engine(path) as tiny:
            check_parity(ChatTokenizer.from_gguf(path), tokenize_with(tiny))
        path.unlink()

    def test_chat_text_is_what_the_engine_writes(self, tokenizer: ChatTokenizer, post: Post) -> None:
        chat = [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello!"), ("user", "Bye")]
        messages = [{"role": role, "content": text} for role, text in chat]
        assert tokenizer.chat_text(chat) == json.loads(post("/apply-template", {"messages": messages}))["prompt"]

    def test_a_difference_shows_the_text_and_both_ids(self, tokenizer: ChatTokenizer) -> None:
        def shifted(text: str) -> Sequence[int]:
            ids = tokenizer.encode(text)
            return (*ids[:2], 7, *ids[3:]) if "café" in text else ids

        ours = list(tokenizer.encode(PROBES[3]))
        with pytest.raises(TokenError) as failure:
            check_parity(tokenizer, shifted)
        assert repr(PROBES[3]) in str(failure.value)
        assert f"from token 2 on {ours[2:10]} here, {[7, *ours[3:10]]} there" in str(failure.value)

    def test_a_missing_tail_is_a_difference(self, tokenizer: ChatTokenizer) -> None:
        with pytest.raises(TokenError, match=r"from token 1 on \[\d+.*\] here, \[\] there"):
            check_parity(tokenizer, lambda text: tokenizer.encode(text)[:1], probes=["one two"])


class TestChat:
    def test_ids_are_those_of_the_rendered_text(self, tokenizer: ChatTokenizer) -> None:
        text = (
            "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
            "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
        )
        chat = [{"role": "user", "content": "Hi"}]
        assert tokenizer.chat_text(chat) == text
        assert tokenizer.chat_ids(chat) == tokenizer.chat_ids([("user", "Hi")]) == tokenizer.encode(text)
        assert tokenizer.chat_ids(chat).count(1) == 3  # <|im_start|> is one token

    def test_facts(self, tokenizer: ChatTokenizer) -> None:
        assert tokenizer.vocab_size == 49152
        assert tokenizer.eos_ids == {0, 2}
        assert tokenizer.template_sha256 == "872be49dbb638044ad01b60388f48d469ff2980e5f0dccdc22ec907db54d0788"

    def test_template_arguments_functions_and_blocks(self) -> None:
        template = (
            "{%- for m in messages %}\n    {% if m.role == 'skip' %}{% continue %}{% endif %}\n"
            "{% generation %}[{{ m.content }}]{% endgeneration %}\n{% endfor %}\n"
            "{{ bos_token }}{{ {'é': think} | tojson }}{{ tools is none }}{{ strftime_now('%Y')[:2] }}"
        )
        render = template_renderer("x", template, {"bos_token": "<s>"})
        messages = [{"role": "skip", "content": "a"}, {"role": "user", "content": "b"}]
        assert render(messages, {"think": False}) == '[b]<s>{"é": false}True20'

    def test_a_refusal_says_why(self, model: Path, tmp_path: Path) -> None:
        metadata = read_gguf_header(model).metadata
        template = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
        tokenizer = ChatTokenizer.from_gguf(write_gguf(tmp_path / "m.gguf", metadata, pre="gpt-2", template=template))
        assert tokenizer.chat_ids([("user", "a")]) == ()
        with pytest.raises(TokenError, match=r"m\.gguf' refuses the conversation: no system role"):
            tokenizer.chat_ids([("system", "a")])

    def test_a_template_cannot_reach_python(self) -> None:
        render = template_renderer("x", "{{ messages.__class__.__mro__ }}", {})
        with pytest.raises(Exception, match="unsafe"):
            render([], {})

    def test_no_template(self, model: Path, tmp_path: Path) -> None:
        metadata = read_gguf_header(model).metadata
        with pytest.raises(TokenError, match="has no chat template"):
            ChatTokenizer.from_gguf(write_gguf(tmp_path / "m.gguf", metadata, pre="gpt-2"))

    def test_a_template_that_cannot_be_read(self) -> None:
        with pytest.raises(TokenError, match="cannot be read"):
            template_renderer("x", "{% if %}", {})

    def test_an_unknown_pre_tokenizer_is_named(self, model: Path, tmp_path: Path) -> None:
        metadata = read_gguf_header(model).metadata
        with pytest.raises(TokenError, match=r"'tekken'.*Hugging Face tokenizer"):
            ChatTokenizer.from_gguf(write_gguf(tmp_path / "m.gguf", metadata, pre="tekken", template="x"))

    @pytest.mark.parametrize(
        ("changes", "match"),
        [
            ({"tokenizer.ggml.model": "llama"}, "'llama' vocabulary"),
            ({"tokenizer.ggml.tokens": ["a"]}, "no usable vocabulary"),
            ({"tokenizer.ggml.merges": ["ab"]}, "no usable vocabulary"),
        ],
    )
    def test_an_unusable_vocabulary(self, changes: dict[str, Any], match: str) -> None:
        metadata = {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "gpt-2", "tokenizer.ggml.tokens": ["a", "b"]}
        metadata |= {"tokenizer.ggml.token_type": [1, 1], "tokenizer.ggml.merges": ["a b"]} | changes
        with pytest.raises(TokenError, match=f"'x' has .*{match}.*Hugging Face tokenizer instead"):
            build_tokenizer("x", metadata)

    def test_a_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match="does not exist"):
            ChatTokenizer.from_gguf(tmp_path / "m.gguf")

    def test_end_ids_follow_the_engine(self) -> None:
        tokens = ["<|end|>", "<|return|>", "<|call|>", "x", "</s>"]
        assert end_ids({"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.eot_token_id": 3}) == {1, 2, 3, 4}
        assert end_ids({"tokenizer.ggml.tokens": tokens[:1]}) == {0}


class TestRoundTrip:
    @slow_texts
    @given(text=spelled_texts)
    def test_decode_inverts_encode(self, tokenizer: ChatTokenizer, text: str) -> None:
        assert tokenizer.decode(tokenizer.encode(text)) == text

    def test_special_unnamed_and_unknown_ids_have_no_text(self, tokenizer: ChatTokenizer) -> None:
        assert tokenizer.decode([1, None, *tokenizer.encode("ok"), 2, 10**6]) == "ok"

    def test_an_incomplete_character_at_the_end_is_dropped(self, tokenizer: ChatTokenizer) -> None:
        ids = tokenizer.encode("a👩")
        assert tokenizer.decode(ids[:-1]) == "a"
        assert tokenizer.decode([*ids[:-1], *tokenizer.encode("b")]) == "a\ufffdb"

    def test_half_a_surrogate_pair_is_refused(self, tokenizer: ChatTokenizer) -> None:
        with pytest.raises(TokenError, match="character 1"):
            tokenizer.encode("a\ud800")

    def test_prompt_sha256_is_of_little_endian_uint32(self) -> None:
        assert prompt_sha256([]) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        assert prompt_sha256([1]) == "67abdd721024f0ff4e0b3f4c2fc13bc5bad42d0b7851d456d88d203d15aaa450"
        assert prompt_sha256([1]) != prompt_sha256([1, 0])


def held_back(tokenizer: ChatTokenizer, ids: Sequence[int]) -> list[tuple[tuple[int | None, ...], str]]:
    """The events in which llama.cpp sends ids: none ends inside a character."""
    events, waiting = [], []
    for token_id in ids:
        waiting.append(token_id)
        data = b"".join(tokenizer._byte_vocabulary._bytes_of[waiting_id] for waiting_id in waiting)
        try:
            events.append(((*[None] * (len(waiting) - 1), token_id), data.decode()))
            waiting = []
        except UnicodeDecodeError:
            pass
    assert not waiting
    return events


class TestUnnamed:
    @slow_texts
    @given(text=spelled_texts)
    def test_held_back_tokens_get_their_ids(self, tokenizer: ChatTokenizer, text: str) -> None:
        ids = tokenizer.encode(text)
        named = [tokenizer.name_unnamed(*event) for event in held_back(tokenizer, ids)]
        assert tuple(token_id for event in named for token_id in event) == ids

    def test_the_engines_stream_gets_the_ids_of_its_whole_answer(self, tokenizer: ChatTokenizer, post: Post) -> None:
        answer = "👩‍👩‍👧‍👦 日本語 ẞé 👍🏽🇫🇷 ٣ end"
        body = {"prompt": "x", "n_predict": 90, "temperature": 0, "return_tokens": True}
        body["grammar"] = f'root ::= "{answer}"'
        whole = json.loads(post("/completion", body))["tokens"]
        lines = post("/completion", body | {"stream": True, "timings_per_token": True}).decode().splitlines()
        events = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
        ids: list[int | None] = []
        for event in events:
            if event["tokens"]:
                num_new = event["timings"]["predicted_n"] - len(ids)
                ids += tokenizer.name_unnamed((*[None] * (num_new - 1), *event["tokens"]), event["content"])
        assert len(events) < len(whole), "nothing was held back"
        assert ids == whole[: len(ids)]
        assert tokenizer.decode(ids) == answer

    def test_named_events_come_back_as_they_are(self, tokenizer: ChatTokenizer) -> None:
        event = (5, 6)
        assert tokenizer.name_unnamed(event, "anything") is event
        assert tokenizer.name_unnamed((), "") == ()

    @pytest.mark.parametrize(
        ("token_ids", "text"),
        [
            ((None, 119), "no such end"),
            ((None, None), "é"),
            ((None,), ""),
            ((7, None, 119), "👩"),
            ((None, 10**7), "👩"),
            ((None, 2), "👩"),
            ((None,) * 5 + (119,), "👩"),
            ((None,) * 1000 + (119,), "👩" * 1000),
            ((None,) * 16 + (119,), "👩" * 16),
        ],
    )
    def test_what_does_not_fit_stays_unnamed(
        self, tokenizer: ChatTokenizer, token_ids: tuple[int | None, ...], text: str
    ) -> None:
        assert tokenizer.name_unnamed(token_ids, text) == token_ids

    @pytest.mark.parametrize(
        ("merges", "expected"),
        [
            ([("F0", "9F"), ("9F", "91")], ("F09F", "91")),
            ([("9F", "91"), ("F0", "9F")], ("F0", "9F91")),
            ([("9F", "91"), ("F0", "9F"), ("F0", "9F91")], None),
        ],
    )
    def test_of_several_splits_the_vocabularys_own_is_taken(
        self, tmp_path: Path, merges: list[tuple[str, str]], expected: tuple[str, str] | None
    ) -> None:
        letters = byte_letters()

        def spell(data: str) -> str:
            return "".join(letters[byte] for byte in bytes.fromhex(data))

        spelled = [(spell(left), spell(right)) for left, right in merges]
        tokens = [*letters, *(left + right for left, right in spelled)]
        save_tokenizer(tmp_path, Tokenizer(models.BPE({token: at for at, token in enumerate(tokens)}, spelled)))
        tokenizer = ChatTokenizer.from_huggingface(str(tmp_path))
        ids = (None, None) if expected is None else tuple(tokens.index(spell(data)) for data in expected)
        assert tokenizer.name_unnamed((None, None, 0xA9), "👩") == (*ids, 0xA9)

    @slow_texts
    @given(num=st.integers(1, 40), last=st.integers(0, 49151), text=texts | wide_texts)
    def test_a_name_always_spells_the_text(self, tokenizer: ChatTokenizer, num: int, last: int, text: str) -> None:
        named = tokenizer.name_unnamed((*[None] * num, last), text)
        assert len(named) == num + 1
        assert None in named or tokenizer.decode(named) == text


TEMPLATE = "{{ bos_token }}{% for m in messages %}<u>{{ m.content }}{% endfor %}{% if think %}<t>{% endif %}"


def byte_letters() -> list[str]:
    """The character that stands for each byte, in GPT-2's alphabet."""
    rest = iter(range(0x100, 0x144))
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    letters = [chr(byte if byte in printable else next(rest)) for byte in range(256)]
    assert set(letters) == set(pre_tokenizers.ByteLevel.alphabet())
    return letters


def save_tokenizer(folder: Path, tokenizer: Tokenizer, **config: object) -> None:
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast"} | config
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "chat_template.jinja").write_text(TEMPLATE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face tokenizer of single bytes, with special tokens and a chat template."""
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer = Tokenizer(models.BPE({letter: at for at, letter in enumerate(byte_letters())}, []))
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in ("<s>", "</s>", "<u>")])
    tokenizer.add_tokens([AddedToken("<t>", normalized=False)])
    save_tokenizer(folder, tokenizer, bos_token="<s>", eos_token="</s>", model_max_length=3)  # noqa: S106
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [257, 258]}))
    return folder


class TestHuggingFace:
    def test_ids_text_and_facts(self, folder: Path) -> None:
        tokenizer = ChatTokenizer.from_huggingface(str(folder))
        assert tokenizer.chat_text([("user", "é")], {"think": True}) == "<s><u>é<t>"
        ids = tokenizer.chat_ids([("user", "é")], {"think": True})
        assert ids[:2] == (256, 258)
        assert ids[-1] == 259
        assert len(ids) == 5
        assert tokenizer.decode(ids) == "é<t>"
        assert tokenizer.decode(ids[:-2]) == ""
        assert tokenizer.eos_ids == {257, 258}
        assert tokenizer.vocab_size == 260

    def test_unnamed_tokens_get_their_ids(self, folder: Path) -> None:
        tokenizer = ChatTokenizer.from_huggingface(str(folder))
        ids = tokenizer.encode("👩")
        assert tokenizer.name_unnamed((None, None, None, ids[3]), "👩") == ids

    def test_a_template_argument_that_is_not_the_templates(self, folder: Path) -> None:
        tokenizer = ChatTokenizer.from_huggingface(str(folder))
        with pytest.raises(TokenError, match="tokenize"):
            tokenizer.chat_ids([("user", "a")], {"tokenize": True})

    def test_other_vocabularies_leave_tokens_unnamed(self, folder: Path, tmp_path: Path) -> None:
        words = Tokenizer(models.WordLevel({"[UNK]": 0, "hi": 1}, unk_token="[UNK]"))  # noqa: S106
        words.save(str(tmp_path / "tokenizer.json"))
        (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
        (tmp_path / "chat_template.jinja").write_text(TEMPLATE)
        tokenizer = ChatTokenizer.from_huggingface(str(tmp_path))
        assert tokenizer.name_unnamed((None, 1), "hi") == (None, 1)
        assert tokenizer.decode([1, None]) == "hi"
        assert tokenizer.eos_ids == set()

    def test_no_template(self, folder: Path, tmp_path: Path) -> None:
        for name in ("tokenizer.json", "tokenizer_config.json"):
            (tmp_path / name).write_bytes((folder / name).read_bytes())
        with pytest.raises(TokenError, match="has no chat template"):
            ChatTokenizer.from_huggingface(str(tmp_path))

    def test_lost_charsizer(self, tmp_path: Path) -> None:
        with pytest.raises(TokenError, match="cannot load the tokenizer"):
            ChatTokenizer.from_huggingface(str(tmp_path))

    def test_a_hub_that_does_not_answer_is_told_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("speed_bench.tokens.hub_answers", lambda *name: False)
        with pytest.raises(TokenError, match="cannot load the tokenizer 'no/such'"):
            ChatTokenizer.from_huggingface("no/such")

    def test_transformers_missing(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "transformers", None)
        with pytest.raises(TokenError, match="pip install 'transformers"):
            ChatTokenizer.from_huggingface(str(folder))

    def test_nothing_is_printed(self, folder: Path) -> None:
        code = (
            f"from speed_bench.tokens import ChatTokenizer as C; C.from_huggingface({str(folder)!r}).encode('abcdef')"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout + done.stderr == ""
