"""The stand-ins are for another environment: nothing here is a test."""

collect_ignore_glob = ["sglang_stubs/*"]
