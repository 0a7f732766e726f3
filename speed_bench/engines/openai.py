"""What engines have in common: OpenAI's completions with token ids, asking for ids, settings on a command line."""

from collections.abc import Mapping
from typing import Any

import orjson

from speed_bench.errors import RequestFailed
from speed_bench.types import Request


def completion(request: Request, served: str) -> dict[str, Any]:
    """The body of `/v1/completions` that both read: prompt ids, one answer, streamed, plain sampling."""
    sampling = request.sampling
    return {
        "model": served,
        "prompt": request.prompt_ids,
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": 1.0,
        "seed": sampling.seed,
        "stop_token_ids": sampling.stop_ids,
        "ignore_eos": sampling.ignore_eos,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def tokenize_payload(text: str, served: str) -> tuple[str, dict[str, Any]] | None:
    """Text -> the request that asks vLLM or SGLang for its ids."""
    return "/tokenize", {"model": served, "prompt": text, "add_special_tokens": False}


def tokenize_answer(body: bytes) -> list[int]:
    """The answer to `tokenize_payload`, of every engine that has one -> ids."""
    return [int(token) for token in orjson.loads(body)["tokens"]]


def event_data(event: bytes) -> dict[str, Any] | None:
    """The object of an event; None for `[DONE]`. Raises RequestFailed for an error, and for what is no object."""
    if event == b"[DONE]":
        return None
    try:
        data = orjson.loads(event)
    except orjson.JSONDecodeError as error:
        raise unreadable(event, error) from error
    if not isinstance(data, dict):
        raise unreadable(event, TypeError("not an object"))
    if "error" in data or data.get("object") == "error":
        refusal = data.get("error") or (data.get("object") == "error" and data)
        if refusal:
            raise RequestFailed(f"the engine answered in the middle of the stream: {error_message(refusal)}")
    return data


def error_message(error: object) -> str:
    """The words of an error object."""
    return str(error.get("message", error)) if isinstance(error, Mapping) else str(error)


def unreadable(event: bytes, error: Exception) -> RequestFailed:
    """What to raise for an event that is not as it should be."""
    return RequestFailed(f"an event that cannot be read ({error!r}): {event[:200]!r}")


def flags(settings: Mapping[str, Any]) -> list[str]:
    """Settings as command-line words: True is the bare flag, False the `--no-` one, None is left out.

    >>> flags({"max_model_len": 8, "enforce_eager": True, "enable_x": False, "y": None, "z": {"a": 1}})
    ['--max-model-len', '8', '--enforce-eager', '--no-enable-x', '--z', '{"a":1}']
    """
    words: list[str] = []
    for name, value in settings.items():
        flag = "--" + name.replace("_", "-")
        if value is None:
            continue
        if value is True:
            words.append(flag)
        elif value is False:
            words.append(flag.replace("--", "--no-", 1))
        else:
            words += [flag, value if isinstance(value, str) else orjson.dumps(value).decode()]
    return words
