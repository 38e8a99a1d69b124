import socket
import subprocess
import sys

import pytest

from temporaletl.embedded.ports import HOST, claim_port

CLAIM = "from temporaletl.embedded.ports import claim_port; claim = claim_port(int({})); "


@pytest.mark.parametrize("wanted", [True, False])
def test_a_port_is_one_stacks_before_anything_listens_on_it(*, wanted: bool) -> None:
    first = claim_port()
    second = claim_port(first.number if wanted else 0)
    assert first.number != second.number
    first.release()
    second.release()
    again = claim_port(first.number)
    assert again.number == first.number
    again.release()


def test_a_claim_ends_with_its_process_and_another_process_passes_it_over() -> None:
    claimed = claim_port()
    command = [sys.executable, "-c", f"{CLAIM.format(claimed.number)}print(claim.number)"]
    other = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    claimed.release()
    assert other != claimed.number
    again = claim_port(other)
    assert again.number == other
    again.release()


def test_a_server_listens_on_a_port_that_is_claimed_and_keeps_it_after_the_claim() -> None:
    claimed = claim_port()
    with socket.create_server((HOST, claimed.number)):
        claimed.release()
        other = claim_port(claimed.number)
        assert other.number != claimed.number
        other.release()
