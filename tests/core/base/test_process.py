import subprocess
import sys

from tasks.core.base.process import Process, this_process


def test_a_process_that_runs_is_not_gone_and_is_known_again() -> None:
    assert not this_process().is_gone
    assert this_process() == this_process()


def test_a_process_that_ended_is_gone_even_before_it_is_reaped() -> None:
    program = "from tasks.core.base.process import this_process; print(this_process().model_dump_json())"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        ended = Process.model_validate_json(child.stdout.read())
        assert ended.number == child.pid
        while not ended.is_gone:
            pass
    assert ended.is_gone


def test_a_later_process_of_the_same_number_is_another() -> None:
    assert this_process().model_copy(update={"started": "1"}).is_gone


def test_of_another_machine_nothing_is_known() -> None:
    elsewhere = {"machine": "elsewhere", "number": 2**31 - 1}
    assert not this_process().model_copy(update=elsewhere).is_gone
    assert not this_process().model_copy(update=elsewhere | {"machine": ""}).is_gone
