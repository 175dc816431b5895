from pathlib import Path

from PIL import Image

from vimserve.loadtests.own_classes import OWN, nearest_mean
from vimserve.model.demo.icons import CLASSES
from vimserve.model.heads.data import Picture


def test_the_demo_has_seen_none_of_the_kinds():
    assert not {*OWN} & {name for names in CLASSES.values() for name in names.split()}


def test_pictures_are_of_the_class_whose_mean_is_nearest(tmp_path: Path):
    def picture(label: int, level: int) -> Picture:
        file = tmp_path / f"{label} {level}.png"
        Image.new("L", (20, 20), level).save(file)
        return Picture(file.name, file, label)

    train = [picture(label, 20 * label + more) for label in range(len(OWN)) for more in (0, 2)]
    test = [picture(3, 62), picture(4, 83), picture(5, 61), picture(6, 125)]
    assert nearest_mean(train, test) == 0.75
