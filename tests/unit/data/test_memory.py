"""The in-memory source: each image once an epoch, an order of its own in each, the same wherever one starts."""

import pickle
from typing import Any

import pytest
import torch

from isograd.data import synthetic
from isograd.data.batch import Batch, draw_batch
from isograd.data.dataset import DATASETS, dataset_of
from isograd.data.transforms import Augmentation, Normalize
from tests.unit.data.sources import as_batch, same, source, whole


def test_an_epoch_holds_every_image_once_and_keeps_the_last_batch() -> None:
    batches = list(source(84, 8).train(1))
    assert [batch.size for batch in batches] == [8] * 10 + [4]
    assert sorted(torch.cat([batch.index for batch in batches]).tolist()) == list(range(84))


def test_epochs_differ_and_repeat_exactly() -> None:
    first, again, second = (list(source().train(epoch)) for epoch in (1, 1, 2))
    assert same(first, again)
    assert not torch.equal(first[0].index, second[0].index)


def test_starting_in_the_middle_gives_the_tail() -> None:
    whole, tail = list(source().train(3)), list(source().train(3, first=7))
    assert [batch.number for batch in tail] == [7, 8, 9, 10]
    assert same(whole[7:], tail)


def augment(images: torch.Tensor, **options: Any) -> torch.Tensor:
    augmentation = Augmentation(**options)
    draws = augmentation.draw(len(images), torch.Generator().manual_seed(0))
    return augmentation.apply(as_batch(images), draws).inputs["image"]


def test_a_crop_is_a_window_of_the_padded_image() -> None:
    images = torch.randint(0, 256, (16, 3, 8, 8), dtype=torch.uint8)
    cropped = augment(images, padding=2, padding_mode="reflect")
    padded = torch.nn.functional.pad(images, (2, 2, 2, 2), mode="reflect")
    windows = padded.unfold(2, 8, 1).unfold(3, 8, 1).flatten(2, 3)  # (B, C, 25, H, W)
    assert all((windows[row] == cropped[row][:, None]).all(dim=(0, 2, 3)).any() for row in range(16))
    assert len({tuple(image.flatten().tolist()) for image in cropped - images}) > 1


def test_flips_mirror_about_half_of_the_images() -> None:
    images = torch.randint(0, 256, (400, 1, 4, 4), dtype=torch.uint8)
    flipped = augment(images, flip=True)
    mirrored = (flipped == images.flip(-1)).flatten(1).all(1)
    kept = (flipped == images).flatten(1).all(1)
    assert (mirrored | kept).all() and 140 < int(mirrored.sum()) < 260


def test_normalisation_is_undone_to_the_unit_range() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    normalize = Normalize([0.4914], [0.247])
    torch.testing.assert_close(normalize.restore(pixels), pixels / 255, rtol=0, atol=1e-7)
    exact = normalize.double().restore(pixels)
    assert exact.dtype == torch.float64 and exact.min() >= 0 and exact.max() <= 1


def test_digits_are_real_and_split_once() -> None:
    digits = dataset_of(DATASETS.get("digits").config).open(seed=0)
    assert (digits.num_train, digits.num_test) == (1437, 360)
    targets = torch.cat([batch.targets["label"] for batch in digits.test()])
    assert torch.bincount(targets, minlength=10).min() > 20


@pytest.mark.parametrize("world", [1, 2, 3])
def test_the_parts_of_all_workers_are_the_whole(world: int) -> None:
    one = source()
    shards = [one.shard(rank, world) for rank in range(world)]
    assert same(list(one.train(2, 3)), whole([shard.train(2, 3) for shard in shards]))
    assert same(list(one.valid()), whole([shard.valid() for shard in shards]))
    assert same(list(one.test()), whole([shard.test() for shard in shards]))


def test_a_worker_may_have_no_sample_of_a_small_batch() -> None:
    sizes = [[batch.size for batch in source(num_train=18).shard(rank, 4).train(1)] for rank in range(4)]
    assert sizes == [[2, 2, 0], [2, 2, 1], [2, 2, 0], [2, 2, 1]]


def test_what_is_held_is_not_sent_twice() -> None:
    one = source()
    before = len(pickle.dumps(one))
    list(one.train(1))
    assert len(pickle.dumps(one)) == before and same(list(pickle.loads(pickle.dumps(one)).train(1)), list(one.train(1)))


def test_synthetic_samples_have_the_fields_and_the_augmentation_of_the_data() -> None:
    dataset = dataset_of(DATASETS.get("digits").config)

    def draw(size: int, generator: torch.Generator) -> Batch:
        return draw_batch(dataset.inputs, dataset.targets, size, generator)

    random, again = (synthetic.source(draw, 3, 4, dataset.augmentation) for _ in range(2))
    assert (random.num_train, random.num_valid, random.num_test) == (12, 0, 0)
    batches = list(random.train(1))
    assert [batch.size for batch in batches] == [4, 4, 4] and same(batches, list(again.train(1)))
    images = batches[0].inputs["image"]
    assert images.shape == (4, 1, 8, 8) and images.dtype == torch.uint8
    assert not same(batches, list(synthetic.source(draw, 3, 4).train(1)))
