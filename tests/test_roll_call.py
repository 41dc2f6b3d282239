"""What processes that wait learn from each other's notes."""

import os
import threading
import time

import torch.distributed as dist

from deeplab_fast.distributed.roll_call import RollCall


def test_the_first_that_waits_names_those_that_do_not_answer():
    store = dist.HashStore()
    rolls = [RollCall(store, rank, 5) for rank in range(4)]
    found = [None] * 5

    def ask(rank):
        found[rank] = rolls[rank].missing(timed_out=rank == 3, grace_s=0.5)

    threads = [threading.Thread(target=ask, args=(rank,)) for rank in (1, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    place = f"process {os.getpid()} on {os.uname().nodename}"
    expected = [f"rank 0 ({place})", f"rank 2 ({place})", "rank 4, which never came"]
    assert found[1].ranks == found[3].ranks == expected
    assert {found[1].speaks, found[3].speaks} == {True, False}
    assert found[1].timed_out
    assert not found[1].is_said


def test_one_that_still_waits_for_another_is_there():
    store = dist.HashStore()
    asks, waits_elsewhere = RollCall(store, 0, 3), RollCall(store, 1, 3)
    found = asks.missing(timed_out=False, grace_s=4)
    waits_elsewhere.end()
    assert found.ranks == ["rank 2, which never came"]


def test_one_that_left_says_its_own_error():
    store = dist.HashStore()
    first, second = RollCall(store, 0, 2), RollCall(store, 1, 2)
    first.leave()
    found = second.missing(timed_out=False, grace_s=10)
    assert found.is_said
    assert found.ranks == []


class SlowStore(dist.Store):
    """A store whose answer comes after the process began to end."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Event()

    def set(self, key, value):
        pass

    def check(self, keys):
        self.asked.set()
        time.sleep(0.3)
        return False


def test_nothing_asks_the_store_after_the_end(monkeypatch):
    monkeypatch.setattr("deeplab_fast.distributed.roll_call._ANSWERS_S", 1e-3)
    store = SlowStore()
    roll = RollCall(store, 0, 2)
    assert store.asked.wait(10)
    roll.end()
    assert not roll._answers.is_alive()
