"""Drives SGLang's own response path with fabricated verify results, in one process and without a GPU.

What is real: the command line parser and its checks, `TokenizerManager`, the scheduler's `Req`, its counting of
accepted drafts and its output streamer, the detokenizer, the HTTP handler that writes the stream, the Prometheus
collector. What is fabricated: the tokens that a verify step accepts (`SCENARIOS`).

    python drive_tokenizer_manager.py MODEL_DIR OUT_DIR [ARGUMENTS]

writes for each scenario `<name>.sse` (the bytes of the response), `<name>.truth.json` (what was fed),
`<name>.before.txt` and `<name>.after.txt` (the counters around it), and `facts.json`: names, defaults, and which
arguments are accepted. ARGUMENTS is a file: a JSON list of `{"name": …, "argv": [flags]}`, `{model}` for MODEL_DIR.
"""

import asyncio
import atexit
import contextlib
import dataclasses
import inspect
import io
import json
import os
import re
import shutil
import sys
import tempfile
from array import array
from http import HTTPStatus
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock, patch

os.environ["SGLANG_USE_CPU_ENGINE"] = "1"
os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp()  # before anything imports prometheus_client

import torch
from prometheus_client import CollectorRegistry, generate_latest, multiprocess
from sglang.srt.disaggregation.utils import DisaggregationMode
from sglang.srt.entrypoints import http_server
from sglang.srt.managers import tokenizer_manager as tokenizer_manager_module
from sglang.srt.managers.detokenizer_manager import DetokenizerManager
from sglang.srt.managers.io_struct import AbortReq, GenerateReqInput
from sglang.srt.managers.schedule_batch import FINISH_ABORT, Req
from sglang.srt.managers.scheduler_components.batch_result_processor import SchedulerBatchResultProcessor
from sglang.srt.managers.scheduler_components.output_streamer import SchedulerOutputStreamer
from sglang.srt.managers.tokenizer_manager import TokenizerManager
from sglang.srt.managers.utils import GenerationBatchResult
from sglang.srt.runtime_context import get_parallel, publish
from sglang.srt.sampling.sampling_params import SamplingParams
from sglang.srt.server_args import PortArgs, ServerArgs, prepare_server_args
from sglang.srt.speculative.spec_info import SpeculativeAlgorithm

WIDTH = 4  # SGLang's num_draft_tokens: the proposals of a chain, and the token that they follow
EOS = 2
PROMPT = [1, 9690, 198, 19556, 2, 198]
SERVER = ["--device", "cpu", "--attention-backend", "torch_native", "--served-model-name", "tiny-llama"]
CHAIN = ["--speculative-num-draft-tokens", str(WIDTH), "--speculative-ngram-max-bfs-breadth", "1"]
TOLD = ["speculative_algorithm", "speculative_num_steps", "speculative_eagle_topk", "speculative_num_draft_tokens"]
TOLD += ["attention_backend", "disable_overlap_schedule", "enable_mixed_chunk", "max_running_requests", "page_size"]

Tokens = list[int]
MIXED = [[504, 1380], [282, 260, 1123, 314], [5345], [30, 198, 504], [1971, 282, 260, 905]]


@dataclasses.dataclass(frozen=True)
class Scenario:
    """One stream, or several side by side: the prefill token, then what each verify step accepts, bonus included."""

    steps: tuple[list[Tokens], ...]
    max_new_tokens: int = 64
    delta: bool = False  # --incremental-streaming-output
    lag: int = 0  # so many steps pass between two reads of a slow reader
    skip_tokenizer: bool = False  # --skip-tokenizer-init: the scheduler's message goes straight to TokenizerManager
    ending: str = ""  # "abort": the scheduler gives up; "drop": the request leaves by AbortReq


SCENARIOS = {
    "spec-cumulative": Scenario((MIXED,), max_new_tokens=15),
    "spec-delta": Scenario((MIXED,), max_new_tokens=15, delta=True),
    "spec-slow": Scenario((MIXED,), max_new_tokens=15, lag=2),
    "spec-slow-delta": Scenario((MIXED,), max_new_tokens=15, lag=2, delta=True),
    "spec-one-token": Scenario(([],), max_new_tokens=1),
    "spec-eos": Scenario(([[504, 1380], [282, 260], [198, EOS, 504, 260]],)),
    "spec-eos-prefill": Scenario(([],)),
    "spec-cut": Scenario((MIXED,), max_new_tokens=13),
    "spec-skip-tokenizer": Scenario((MIXED,), max_new_tokens=15, skip_tokenizer=True),
    "spec-abort": Scenario((MIXED[:2],), ending="abort"),
    "spec-drop-delta": Scenario((MIXED[:2],), ending="drop", delta=True),
    "spec-many": Scenario((MIXED, MIXED[::-1], [[260], [504], [198, EOS, 30]]), max_new_tokens=15),
}


class Engine:
    """The processes of a server, as objects that hand each other their messages."""

    def __init__(self, args: ServerArgs) -> None:
        ports = PortArgs.init_new(args)
        self.tokens, self.sent, self.asked = TokenizerManager(args, ports), [], []
        with patch("sglang.srt.managers.detokenizer_manager.start_cpu_monitor_thread"):  # one a process
            self.text = DetokenizerManager(args, ports)
        self.tokens._dispatch_to_scheduler = self.asked.append
        http_server.set_global_state(SimpleNamespace(tokenizer_manager=self.tokens))
        self.streamer = SchedulerOutputStreamer(
            send_to_detokenizer=SimpleNamespace(send_output=self.sent.append),
            tree_cache=MagicMock(cache_controller=None),
            server_args=args,
            is_generation=True,
            spec_algorithm=SpeculativeAlgorithm.from_string("NGRAM"),
            disaggregation_mode=DisaggregationMode.NULL,
            enable_hicache_storage=lambda: False,
        )

    def request(self) -> Req:
        """What the scheduler makes of the message that TokenizerManager sent last."""
        message = self.asked.pop()
        message.unwrap_pickle_fields()
        config = self.tokens.model_config
        given = (message.rid, message.input_text, array("q", message.input_ids), message.sampling_params)
        names = {"eos_token_ids": config.hf_eos_token_id, "vocab_size": config.vocab_size}
        request = Req(*given, stream=message.stream, time_stats=message.time_stats, **names)
        request.tokenizer = self.text.tokenizer
        return request

    def prefill(self, request: Req, token: int) -> None:
        for stamp in ("wait_queue_entry", "forward_entry", "prefill_finished"):
            getattr(request.time_stats, f"set_{stamp}_time")()
        request.output_ids.append(token)
        request.update_finish_state()

    def verify(self, request: Req, accepted: Tokens) -> None:
        """One step of `process_batch_result_decode`, with its own counting."""
        padded, lens = torch.tensor(accepted + [0] * (WIDTH - len(accepted))), torch.tensor([len(accepted)])
        result = GenerationBatchResult(next_token_ids=padded, accept_lens=lens, speculative_num_draft_tokens=WIDTH)
        batch = SimpleNamespace(reqs=[request], has_grammar=False)
        (tokens,) = SchedulerBatchResultProcessor._resolve_spec_v2_tokens(MagicMock(), result, batch)
        request.output_ids.extend(tokens)
        request.update_finish_state(len(tokens))

    async def deliver(self, requests: list[Req], skip_tokenizer: bool) -> None:
        """One scheduler message, through the detokenizer to the streams that wait for it."""
        self.streamer.stream_output(requests, return_logprob=False)
        message = self.sent.pop()
        if not skip_tokenizer:
            message = self.text.handle_batch_token_id_out(message)
        await self.tokens._handle_batch_output(message)


def counters() -> str:
    """The lines of GET /metrics that count tokens, requests and verify steps."""
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)
    wanted = r"^sglang:(?:prompt_tokens|generation_tokens|spec_verify_calls|num_requests|num_aborted_requests)_total.*"
    return "".join(line + "\n" for line in re.findall(wanted, generate_latest(registry).decode(), re.MULTILINE))


async def settle() -> None:
    """Lets every coroutine run until it waits."""
    for _ in range(20):
        await asyncio.sleep(0)


async def read(obj: GenerateReqInput, gate: asyncio.Event, lag: int) -> list[bytes]:
    """The body of the response to POST /generate, read at once or only while the gate is open."""
    chunks = []
    async for chunk in (await http_server.serve_generate_request(obj, None)).body_iterator:
        chunks.append(chunk)
        if lag:
            gate.clear()
            await gate.wait()
    return chunks


async def play(engine: Engine, name: str, scenario: Scenario, out: Path) -> set[str]:
    """Plays a scenario and writes its files; returns the keys of `meta_info` that were seen."""
    engine.tokens.incremental_streaming_output = scenario.delta
    engine.tokens.skip_tokenizer_init = scenario.skip_tokenizer
    before, gate, readers, requests = counters(), asyncio.Event(), [], []
    for number in range(len(scenario.steps)):
        sampling = {"max_new_tokens": scenario.max_new_tokens, "temperature": 0.0}
        obj = GenerateReqInput(input_ids=PROMPT, sampling_params=sampling, stream=True, rid=f"{name}/{number}")
        readers.append(asyncio.create_task(read(obj, gate, scenario.lag)))
        await settle()
        requests.append(engine.request())

    for request in requests:
        engine.prefill(request, EOS if name == "spec-eos-prefill" else 504)
    live = list(requests)
    for number in range(1 + max(map(len, scenario.steps))):
        if number:
            for request, steps in zip(requests, scenario.steps, strict=True):
                if request in live and number <= len(steps):
                    engine.verify(request, steps[number - 1])
        if live:
            await engine.deliver(live, scenario.skip_tokenizer)
        live = [request for request in live if not request.finished()]
        if scenario.lag == 0 or number % scenario.lag == 0:
            gate.set()
        await settle()
    for request in live:
        if scenario.ending == "abort":
            request.to_finish = FINISH_ABORT("no room", HTTPStatus.INTERNAL_SERVER_ERROR, "InternalServerError")
            request.update_finish_state()
            await engine.deliver([request], scenario.skip_tokenizer)
        elif scenario.ending == "drop":
            engine.tokens._handle_abort_req(AbortReq(rid=request.rid, abort_message="left the queue"))
        else:
            raise ValueError(f"{name}: {request.rid} never ends")
    while not all(reader.done() for reader in readers):
        gate.set()
        await settle()

    keys: set[str] = set()
    for number, (reader, request) in enumerate(zip(readers, requests, strict=True)):
        base = name if len(readers) == 1 else f"{name}-{number}"
        events = [event for event in reader.result() if b"[DONE]" not in event]
        for event in events:
            keys |= json.loads(event.removeprefix(b"data: ")).get("meta_info", {}).keys()
        write_truth(out, base, scenario, scenario.steps[number], request, len(events))
        (out / f"{base}.sse").write_bytes(b"".join(reader.result()))
        (out / f"{base}.before.txt").write_text(before)
        (out / f"{base}.after.txt").write_text(counters())
    return keys


def write_truth(out: Path, base: str, scenario: Scenario, steps: list[Tokens], request: Req, chunks: int) -> None:
    """What was fed, cut where the answer ends; `accepted` is before that cut, `emitted` after it."""
    kept, told = list(request.output_ids_through_stop), []
    room = len(kept) - 1
    for tokens in steps:
        if room > 0:
            told.append({"drafted": WIDTH - 1, "accepted": len(tokens) - 1, "emitted": min(len(tokens), room)})
            room -= len(tokens)
    totals = {name: sum(step[name] for step in told) for name in ("drafted", "accepted", "emitted")}
    finish_reason = request.finished_reason and request.finished_reason.to_json()
    truth = {"prompt_ids": PROMPT, "max_new_tokens": scenario.max_new_tokens, "chunks": chunks, "prefill_tokens": 1}
    truth |= {"steps": told, "totals": {"verify_steps": len(told), **totals}}
    truth |= {"output_ids": kept, "finish_reason": finish_reason}
    lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(value)}" for name, value in truth.items())
    (out / f"{base}.truth.json").write_text(f"{{\n{lines}\n}}\n")


def checked(argv: list[str]) -> tuple[ServerArgs | None, str]:
    """The arguments as a launcher would resolve them, or the message with which they are refused."""
    said = io.StringIO()  # argparse's own words
    try:
        with contextlib.redirect_stderr(said):
            args = prepare_server_args(argv)
        args.resolve_once()
        args.check_server_args()
    except SystemExit:
        return None, said.getvalue().strip().splitlines()[-1]
    except Exception as error:
        return None, f"{type(error).__name__}: {error}".removesuffix(": ")
    return args, ""


def accepted(entry: dict[str, Any], model: Path) -> dict[str, Any]:
    """Whether a list of flags is accepted, and the speculative settings that it leads to."""
    given = [argument.replace("{model}", str(model)) for argument in entry["argv"]]
    args, refusal = checked(["--model-path", str(model), *given])
    if args is None:
        return {**entry, "accepted": False, "refusal": refusal.replace(str(model), "{model}")}
    resolved = args.resolved_dict()
    return {**entry, "accepted": True, "resolved": {name: resolved[name] for name in TOLD}}


def facts(entries: list[dict[str, Any]], model: Path, seen: set[str]) -> dict[str, Any]:
    """Names of this version: what a server, a request and an answer can carry."""
    source = inspect.getsource(tokenizer_manager_module)
    defaults = dict(zip(ServerArgs.__struct_fields__[::-1], ServerArgs.__struct_defaults__[::-1], strict=False))
    return {
        "server_args": {name: repr(defaults.get(name, "required")) for name in ServerArgs.__struct_fields__},
        "speculative_algorithms": [algorithm.name for algorithm in SpeculativeAlgorithm],
        "sampling_params": list(SamplingParams.__struct_fields__),
        "generate_request": sorted(field.name for field in dataclasses.fields(GenerateReqInput)),
        "meta_info_seen": sorted(seen),
        "meta_info_written": sorted(set(re.findall(r'meta_info\["(\w+)"\] =', source))),
        "arguments": [accepted(entry, model) for entry in entries],
    }


async def main() -> None:
    model, out, *rest = map(Path, sys.argv[1:])
    out.mkdir(parents=True, exist_ok=True)
    entries = json.loads(rest[0].read_text()) if rest else []
    flags = ["--model-path", str(model), "--enable-metrics", "--speculative-algorithm", "NGRAM", *CHAIN, *SERVER]
    args, refusal = checked(flags)
    assert args is not None, refusal
    publish(args, role="tokenizer")
    get_parallel().override_permanently(dp_rank=None, attn_tp_rank=0)
    engine, seen = Engine(args), set()
    for name, scenario in SCENARIOS.items():
        seen |= await play(engine, name, scenario, out)
    (out / "facts.json").write_text(json.dumps(facts(entries, model, seen), indent=1, default=repr) + "\n")


if __name__ == "__main__":
    tempfile.tempdir = os.environ["PROMETHEUS_MULTIPROC_DIR"]  # the sockets too
    atexit.register(shutil.rmtree, tempfile.tempdir)
    asyncio.run(main())
