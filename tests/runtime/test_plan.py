"""The plan always fits: the actors it asks for can be placed on the nodes it was computed from."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ConfigError, RunError
from pipeline.geometry import aligned
from pipeline.logits import estimated_bytes
from pipeline.refine import RefineDevice
from pipeline.refine.crf import DenseCRF
from pipeline.runtime.plan import ASSUMED_BYTES, GIB, Node, Plan, WorkerLimits, plan

MEMORY = DenseCRF().memory(labels=21)


def node(cpus: float, gpus: float = 0, memory: float = 64 * GIB) -> Node:
    return Node(cpus=cpus, gpus=gpus, memory=memory)


def placeable(made: Plan, nodes: list[Node]) -> bool:
    """Whether all actors find a place, segmenters first, each node filled in turn."""
    segmenters, refiners = made.segmenters, made.refiners
    for n in nodes:
        cpus, gpus = n.cpus, n.gpus
        while segmenters and cpus + 1e-9 >= made.segmenter_cpus and gpus >= made.segmenter_gpus:
            cpus, gpus, segmenters = cpus - made.segmenter_cpus, gpus - made.segmenter_gpus, segmenters - 1
            if not made.segmenter_gpus and refiners:  # half a core each, side by side
                cpus, refiners = cpus - made.refiner_cpus, refiners - 1
        while refiners and cpus + 1e-9 >= made.refiner_cpus:
            cpus, refiners = cpus - made.refiner_cpus, refiners - 1
    return segmenters == refiners == 0


@pytest.mark.parametrize(
    ("nodes", "segmenters", "refiners"),
    [
        ([node(1)], 1, 1),
        ([node(2)], 2, 2),
        ([node(0), node(4), node(4)], 8, 8),  # a head without work
        ([node(16, gpus=1)], 1, 15),
        ([node(1, gpus=1)], 1, 1),
        ([node(8, gpus=8)], 8, 4),
        ([node(8, gpus=1), node(32)], 1, 39),
        ([node(8, memory=7 * GIB)], 2, 2),
    ],
)
def test_known_clusters(nodes: list[Node], segmenters: int, refiners: int) -> None:
    made = plan(nodes, MEMORY)
    assert (made.segmenters, made.refiners) == (segmenters, refiners)
    assert placeable(made, nodes)


@given(
    st.lists(
        st.builds(
            node, cpus=st.integers(1, 64), gpus=st.integers(0, 8), memory=st.integers(32, 512).map(lambda g: g * GIB)
        ),
        min_size=1,
        max_size=6,
    )
)
def test_any_plan_can_be_placed(nodes: list[Node]) -> None:
    assert placeable(plan(nodes, MEMORY), nodes)


@pytest.mark.parametrize("nodes", [[], [node(0)], [node(0.5)], [node(4, memory=GIB)], [node(0, gpus=1)]])
def test_what_cannot_fit_is_refused(nodes: list[Node]) -> None:
    with pytest.raises(RunError, match="CPU"):
        plan(nodes, MEMORY)


@pytest.mark.parametrize(
    ("nodes", "device", "segmenters", "refiners"),
    [
        ([node(16, gpus=1)], "cuda", 1, 0),
        ([node(16, gpus=1)], "cpu", 1, 15),
        ([node(4, gpus=1)], "auto", 1, 3),
        ([node(4, gpus=1), node(32)], "auto", 1, 35),
        ([node(4, gpus=1, memory=3 * GIB)], "auto", 1, 0),  # no room for a refiner
        ([node(1, gpus=1)], "auto", 1, 0),
        ([node(4, gpus=8)], "auto", 8, 0),
        ([node(4)], "auto", 4, 4),
    ],
)
def test_where_refinement_is_done(nodes: list[Node], device: RefineDevice, segmenters: int, refiners: int) -> None:
    made = plan(nodes, MEMORY, device)
    assert (made.segmenters, made.refiners) == (segmenters, refiners)
    assert placeable(made, nodes)
    assert made.gpus_refine == (device != "cpu" and made.segmenter_gpus > 0)
    assert ("GPUs" in str(made)) == made.gpus_refine


def test_a_gpu_that_is_not_there_is_missed() -> None:
    with pytest.raises(RunError, match="no GPU"):
        plan([node(4)], MEMORY, "cuda")


def test_many_labels_need_more_memory_so_fewer_refiners_fit() -> None:
    nodes = [node(16, memory=32 * GIB)]
    assert plan(nodes, DenseCRF().memory(labels=182)).refiners < plan(nodes, MEMORY).refiners <= 16
    assert 2.5 * GIB < DenseCRF().memory(labels=182) < 4 * GIB


def test_a_plan_is_told_in_plain_words() -> None:
    assert str(plan([node(2)], MEMORY)) == "2 segmenting (0.5 CPU each), 2 refining (0.5 CPU each), 3 fetching at once"
    both = plan([node(4, gpus=1)], MEMORY, "auto")
    assert str(both) == (
        "1 segmenting (1 GPU + 1 CPU each), 3 refining (1 CPU each) what they can, the GPUs the rest, "
        "3 fetching at once"
    )
    on_gpu = plan([node(4, gpus=1)], MEMORY, "cuda")
    assert str(on_gpu) == "1 segmenting (1 GPU + 1 CPU each), refining on their GPUs, 3 fetching at once"


@pytest.mark.parametrize(
    ("images", "segmenters", "refiners", "fetchers"),
    [(1, 1, 1, 1), (32, 1, 1, 1), (33, 2, 2, 1), (200, 4, 7, 4), (10_000, 4, 30, 9)],
)
def test_nothing_is_started_that_is_not_worth_it(images: int, segmenters: int, refiners: int, fetchers: int) -> None:
    whole = Plan(
        segmenters=4,
        most_segmenters=4,
        segmenter_cpus=1,
        segmenter_gpus=1,
        segmenter_batch=4,
        gpus_refine=False,
        refiners=30,
        most_refiners=30,
        refiner_cpus=1,
        fetchers=9,
    )
    fitting = whole.for_images(images)
    assert (fitting.segmenters, fitting.refiners, fitting.fetchers) == (segmenters, refiners, fetchers)


@pytest.mark.parametrize(
    ("images", "mean_bytes", "shared", "alone"),
    [
        (10**6, 50_000, 256, 1024),
        (10**6, 0, 64, 64),  # as of photographs, where nothing tells
        (10**6, 100_000, 256, 671),  # a worker has room for 64 MiB of encoded images
        (10**6, 4 * 2**20, 16, 16),
        (10**6, 2**30, 1, 1),
        (2000, 100_000, 63, 63),  # an eighth of what each of the four has to do
        (5, 100_000, 16, 16),
    ],
)
def test_a_gpu_takes_a_second_s_work_at_once_and_less_of_a_small_run(
    images: int, mean_bytes: int, shared: int, alone: int
) -> None:
    """Less also where it shares the refinement with cores."""
    devices: list[RefineDevice] = ["auto", "cpu", "cuda"]
    plans = [plan([node(16, gpus=4)], MEMORY, refine_on=device) for device in devices]
    assert [one.for_images(images, mean_bytes).segmenter_batch for one in plans] == [shared, alone, alone]


@pytest.mark.parametrize(
    ("images", "mean_bytes", "chunk", "batch", "parcel"),
    [
        (10**6, 50_000, 1024, 1024, 1024),
        (2000, 50_000, 125, 250, 125),  # no task fetches more together
        (10**6, 0, 1024, 64, 16),  # where nothing tells how large they are, few are
        (10**6, 0, 4, 64, 4),
        (10**6, 4 * 2**20, 1024, 16, 16),
        (10**6, 2**30, 1024, 1, 1),
    ],
)
def test_what_is_fetched_together_is_a_batch_where_its_size_and_a_chunk_allow_that(
    images: int, mean_bytes: int, chunk: int, batch: int, parcel: int
) -> None:
    made = plan([node(16, gpus=1)], MEMORY).for_images(images, mean_bytes, chunk=chunk)
    assert (made.segmenter_batch, made.parcel) == (batch, parcel)


@pytest.mark.parametrize(
    ("images", "mean_bytes", "batch"),
    [(10**6, 100_000, 32), (10**6, 4 * 2**20, 16), (1000, 100_000, 8), (5, 100_000, 4)],
)
def test_a_core_takes_more_at_once_the_larger_the_run(images: int, mean_bytes: int, batch: int) -> None:
    fitting = plan([node(16)], MEMORY).for_images(images, mean_bytes)
    assert (fitting.segmenter_batch, fitting.refiner_batch) == (batch, batch)


@pytest.mark.parametrize(
    ("device", "logits_bytes", "batch"),
    [
        ("cpu", 130_000, 256),
        ("cpu", 10**6, 61),  # a worker has room for 64 MiB, logits included
        ("auto", 130_000, 32),  # of what a GPU leaves to them, all cores get a part
    ],
)
def test_a_core_that_refines_takes_more_of_what_gpus_have_segmented(
    device: RefineDevice, logits_bytes: int, batch: int
) -> None:
    made = plan([node(16, gpus=2)], MEMORY, refine_on=device)
    assert made.for_images(10**6, 100_000, logits_bytes).refiner_batch == batch


def sizes(made: Plan) -> tuple[int, int, int, int]:
    return made.segmenters, made.most_segmenters, made.refiners, made.most_refiners


@pytest.mark.parametrize(
    ("nodes", "limits", "expected"),
    [
        ([node(4)], WorkerLimits(), (4, 10**6, 4, 10**6)),
        ([node(4)], WorkerLimits(cpus=2), (2, 2, 2, 2)),
        ([node(4)], WorkerLimits(cpus=16), (4, 16, 4, 16)),
        ([node(0)], WorkerLimits(cpus=16), (1, 16, 1, 16)),  # a head alone: one of each is asked for first
        ([node(0)], WorkerLimits(gpus=4, cpus=36), (1, 4, 1, 32)),
        ([node(16, gpus=2), node(16)], WorkerLimits(gpus=1), (1, 1, 31, 10**6)),
        ([node(8, gpus=8)], WorkerLimits(gpus=1), (1, 1, 7, 10**6)),
        ([node(16, gpus=2)], WorkerLimits(gpus=0), (16, 10**6, 16, 10**6)),
        ([node(16, gpus=2)], WorkerLimits(gpus=8, cpus=64), (2, 8, 14, 56)),
    ],
)
def test_limits_bound_what_is_used_and_ask_for_what_is_not_there(
    nodes: list[Node], limits: WorkerLimits, expected: tuple[int, int, int, int]
) -> None:
    assert sizes(plan(nodes, MEMORY, "cpu", limits, grows=True)) == expected


def test_images_of_unknown_size_are_planned_for_as_photographs() -> None:
    logits = estimated_bytes(182, aligned(8), ASSUMED_BYTES)
    made = plan([node(16, gpus=1)], MEMORY).for_images(10**6, 0, logits)
    assert (made.segmenter_batch, made.refiner_batch) == (10, 2)  # 24 MB each


def test_logits_bound_what_a_segmenter_takes_where_it_hands_them_on() -> None:
    large = 126 * 1024**2  # of 12 megapixels at every second pixel, 21 labels
    for device, batch in (("cpu", 1), ("auto", 1), ("cuda", 21)):
        made = plan([node(16, gpus=1)], MEMORY, device).for_images(10**6, 3 * 1024**2, large)
        assert made.segmenter_batch == batch
    assert plan([node(4)], MEMORY).for_images(10**6, 3 * 1024**2, large).segmenter_batch == 1


@pytest.mark.parametrize("device", ["cpu", "auto", "cuda"])
@pytest.mark.parametrize("cpus", [1, 2, 4, 9, 40])
def test_no_more_cpus_are_used_than_the_limit(device: RefineDevice, cpus: int) -> None:
    made = plan([node(64, gpus=8)], MEMORY, device, WorkerLimits(cpus=cpus))
    used = made.segmenters * made.segmenter_cpus + made.refiners * made.refiner_cpus
    assert (made.segmenters, made.segmenter_gpus) == (8, 1)
    assert cpus - 1 < used <= cpus or (device != "cpu" and used == 8)


@pytest.mark.parametrize("device", ["cpu", "auto", "cuda"])
@pytest.mark.parametrize("cpus", [1, 2, 4, 9, 40])
def test_no_more_cpus_are_used_than_the_limit_where_machines_join_later(device: RefineDevice, cpus: int) -> None:
    made = plan([node(16, gpus=2)], MEMORY, device, WorkerLimits(cpus=cpus), grows=True)
    assert made.most_segmenters * made.segmenter_cpus + made.most_refiners * made.refiner_cpus <= cpus
    assert made.most_segmenters >= made.segmenters == 2


def test_a_gpu_whose_machine_has_no_cpu_is_left_out_where_others_have_some() -> None:
    assert sizes(plan([node(16, gpus=1), node(0, gpus=1)], MEMORY, "cuda")) == (1, 1, 0, 0)
    with pytest.raises(RunError, match="2 GPUs but no CPU of their machines is free"):
        plan([node(0, gpus=2), node(4)], MEMORY, "cuda")


def test_a_gpu_without_memory_for_its_network_is_not_planned_with() -> None:
    with pytest.raises(RunError, match=r"1\.0 GiB of memory free at most, and the network of each GPU takes 2\.0 GiB"):
        plan([node(2, gpus=1, memory=GIB), node(32)], MEMORY)
    assert plan([node(8, gpus=4, memory=5 * GIB), node(32)], MEMORY, "cuda").segmenters == 2
    with pytest.raises(RunError, match=r"no CPU with .* GiB of memory is free for refinement"):
        plan([node(32, gpus=1, memory=5 * GIB // 2)], MEMORY)


def test_a_cluster_that_cannot_grow_is_asked_for_nothing() -> None:
    assert sizes(plan([node(4)], MEMORY, "cpu", WorkerLimits(cpus=16))) == (4, 4, 4, 4)
    with pytest.raises(RunError, match=r"workers\.gpus is 2, and the run's own cluster, .* cannot grow"):
        plan([node(4)], MEMORY, "cpu", WorkerLimits(gpus=2))
    with pytest.raises(RunError, match="the cluster cannot hold"):
        plan([node(0)], MEMORY, "cpu", WorkerLimits(cpus=16))


def test_a_cluster_that_stays_as_it_is_gets_actors_that_stay() -> None:
    made = plan([node(4)], MEMORY)
    assert sizes(made) == (4, 4, 4, 4)
    assert not made.is_elastic
    grown = plan([node(4)], MEMORY, grows=True)
    assert grown.is_elastic
    assert sizes(grown.for_images(1000)) == (4, 32, 4, 32)
    assert "later at most 32 and 32" in str(grown.for_images(1000))


@pytest.mark.parametrize("limits", [{"gpus": -1}, {"cpus": 0}])
def test_limits_under_which_nothing_runs_are_refused(limits: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=r"workers\."):
        WorkerLimits(**limits)
