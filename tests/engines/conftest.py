"""Drivers run in their engine's environment, not in this one."""

collect_ignore = ["sglang/drive_tokenizer_manager.py", "vllm/parse_arguments.py"]
