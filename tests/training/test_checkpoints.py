"""A checkpoint is whole or not there; what is damaged all the same is named, and an older one taken."""

import pytest

from pipeline import storage
from pipeline.errors import RunError, StorageError
from pipeline.training.checkpoints import Checkpoints
from tests.helpers.servers import new_bucket
from tests.helpers.small_disk import enlarge, small_disk

MIB = 2**20


@pytest.fixture(params=["local", "s3"])
def checkpoints(request):
    root = {"local": "tmp_path", "s3": "bucket"}[request.param]
    return Checkpoints(folder=f"{request.getfixturevalue(root)}/run", check=lambda: None)


def put(checkpoints, step, mean_iou=None, loss=1.0, size=100):
    checkpoints.put(bytes([step]) * size, step=step, loss=loss, mean_iou=mean_iou)


def files(checkpoints):
    return sorted(entry.key for entry in storage.list_files(f"{checkpoints.folder}/checkpoints"))


def states(*steps):
    return sorted(f"{step:08d}{suffix}" for step in steps for suffix in (".json", ".pt"))


def test_the_newest_two_and_the_best_are_kept(checkpoints):
    assert checkpoints.newest(pytest.fail) is None
    for step, iou in ((2, 0.5), (4, 0.7), (6, 0.6), (8, 0.7), (10, 0.1), (12, 0.2)):
        put(checkpoints, step, iou)
    assert files(checkpoints) == states(8, 10, 12)
    assert checkpoints.newest(pytest.fail).state == bytes([12]) * 100
    best = checkpoints.best(pytest.fail)
    assert (best.note.step, best.note.mean_iou, best.state) == (8, 0.7, bytes([8]) * 100)


def test_without_validation_the_best_is_the_newest_whatever_a_few_steps_lost(checkpoints):
    for step, loss in ((2, 3.0), (4, 0.5), (5, 0.1), (6, 2.0)):
        put(checkpoints, step, loss=loss)
    assert checkpoints.best(pytest.fail).note.step == 6


def test_a_checkpoint_that_nobody_scored_is_never_the_best_of_a_scored_run(checkpoints):
    for step, mean_iou in ((2, 0.1), (3, None), (4, 0.0), (5, None)):
        put(checkpoints, step, mean_iou=mean_iou, loss=0.01)
    assert checkpoints.best(pytest.fail).note.step == 2


DAMAGE = {
    "cut": lambda uri: storage.put_whole(f"{uri}.pt", storage.read_bytes(f"{uri}.pt")[:-1]),
    "empty": lambda uri: storage.put_whole(f"{uri}.pt", b""),
    "gone": lambda uri: storage.delete(f"{uri}.pt"),
    "note cut": lambda uri: storage.put_whole(f"{uri}.json", b'{"step": 6, '),
    "note of another kind": lambda uri: storage.put_whole(f"{uri}.json", b"[]"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_taken(checkpoints, damage):
    for step in (2, 4, 6):
        put(checkpoints, step, mean_iou=step / 10)
    DAMAGE[damage](f"{checkpoints.folder}/checkpoints/00000006")
    lines = []
    assert checkpoints.newest(lines.append).note.step == 4
    [line] = lines
    assert line.startswith("the checkpoint of step 6 is damaged, and an older one is looked for: ")
    assert f"{checkpoints.folder}/checkpoints/00000006." in line
    assert checkpoints.best(lambda line: None).note.step == 4
    put(checkpoints, 5, mean_iou=0.1)  # as the run goes on
    assert files(checkpoints) == states(4, 5)
    put(checkpoints, 6, mean_iou=0.6)
    assert checkpoints.newest(pytest.fail).note.step == 6


def test_where_none_is_whole_there_is_nothing_to_go_on_from(checkpoints):
    put(checkpoints, 2)
    storage.delete(f"{checkpoints.folder}/checkpoints/00000002.pt")
    lines = []
    assert checkpoints.newest(lines.append) is None
    assert len(lines) == 1


def test_what_was_not_finished_is_not_there_and_goes_with_the_next(checkpoints):
    put(checkpoints, 2)
    storage.put_whole(f"{checkpoints.folder}/checkpoints/00000004.pt", b"whole, and its note was never written")
    storage.put_whole(f"{checkpoints.folder}/checkpoints/.00000004.json.5f0c", b"of a process that was killed")
    assert checkpoints.newest(pytest.fail).note.step == 2
    put(checkpoints, 6)
    assert files(checkpoints) == states(2, 6)
    assert not storage.exists(f"{checkpoints.folder}/checkpoints/.00000004.json.5f0c")


def test_a_run_that_lost_its_lock_writes_nothing_more(checkpoints):
    def lost():
        raise RunError("another run has the lock")

    put(checkpoints, 2)
    with pytest.raises(RunError, match="has the lock"):
        put(Checkpoints(folder=checkpoints.folder, check=lost), 4)
    assert files(checkpoints) == states(2)


def test_on_a_full_disk_the_checkpoints_before_stay(tmp_path):
    disk = tmp_path / "disk"
    checkpoints = Checkpoints(folder=f"{disk}/run", check=lambda: None)
    with small_disk(disk, size="4m"):
        put(checkpoints, 2, size=3 * MIB)
        with pytest.raises(StorageError, match=r"cannot write .*/00000004.pt: no space is left there"):
            put(checkpoints, 4, size=3 * MIB)
        assert files(checkpoints) == states(2)
        assert not list(disk.glob("run/checkpoints/.*"))
        assert checkpoints.newest(pytest.fail).state == bytes([2]) * 3 * MIB
        enlarge(disk)
        put(checkpoints, 4, size=3 * MIB)
        assert checkpoints.newest(pytest.fail).note.step == 4


@pytest.mark.parametrize(("fault", "size"), [("refuse-writes", 100), ("refuse-completion", 101 * MIB)])
def test_where_a_storage_refuses_what_was_written_the_checkpoints_before_stay(proxy, fault, size):
    checkpoints = Checkpoints(folder=f"{new_bucket()}/run", check=lambda: None)
    put(checkpoints, 2)
    proxy.fault = fault
    with pytest.raises(StorageError, match="cannot write"):
        put(checkpoints, 4, size=size)
    assert files(checkpoints) == states(2)
    assert checkpoints.newest(pytest.fail).note.step == 2
    proxy.fault = "none"
    put(checkpoints, 4)
    assert checkpoints.newest(pytest.fail).note.step == 4
