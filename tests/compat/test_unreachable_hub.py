"""What began with the first test and takes longest: it is waited for after the last one."""

import subprocess


def test_without_a_network_and_without_being_told_so_the_exact_call_answers_in_the_end(
    unreachable_hub: subprocess.Popen[str],
):
    out, errors = unreachable_hub.communicate(timeout=110)
    assert (unreachable_hub.returncode, out.split()) == (0, ["880"]), errors
