"""The exported function, run by jax and numpy alone, against the predictor; the exported checkpoint as a checkpoint."""

import json
import re
import subprocess
import sys

import cv2
import numpy as np
import pytest

import sognet_jax
from sognet_jax.checkpoints import stored_config
from sognet_jax.data.sources.shapes.builder import ShapesSettings, draw
from sognet_jax.programs.export import export
from tests.support.paths import ROOT
from tests.support.runs import save_tiny_network

pytestmark = pytest.mark.compiles

CODE = re.findall(r'```python\n(.*?)```', (ROOT / 'docs' / 'export.md').read_text(), re.DOTALL)
SHAPES_OF_IMAGES = [(64, 96), (90, 150), (50, 200)]

RUN = """
import sys
import jax
import numpy as np
import pathlib
folder, inputs, outputs = map(pathlib.Path, sys.argv[1:])
function = jax.export.deserialize((folder / 'inference_64x96.stablehlo').read_bytes())
weights = [dict(np.load(folder / 'weights.npz'))] if (folder / 'weights.npz').exists() else []
arrays = np.load(inputs)
found = [function.call(*weights, image[None], size[None]) for image, size in zip(arrays['image'], arrays['size'])]
np.savez(outputs, *[np.asarray(one['panoptic'][0]) for one in found])
assert not any('sognet' in name or 'flax' in name or 'cv2' in name for name in sys.modules)
"""


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    return save_tiny_network(tmp_path_factory.mktemp('run') / 'saved', score_threshold=0.02, stuff_area_limit=200)


@pytest.fixture(scope='module')
def images():
    drawn = [draw(ShapesSettings(), 0, index).image() for index in range(len(SHAPES_OF_IMAGES))]
    return [cv2.resize(image, size[::-1]) for image, size in zip(drawn, SHAPES_OF_IMAGES, strict=True)]


@pytest.mark.parametrize('weights_inside', [True, False])
def test_the_function_gives_the_predictor_s_map_with_jax_and_numpy_alone(checkpoint, images, tmp_path, weights_inside):
    output = tmp_path / 'exported'
    files = export(
        stored_config(checkpoint), checkpoint, output, platforms=('cpu', 'cuda', 'tpu'), weights_inside=weights_inside
    )
    assert [file.name for file in files] == ['inference_64x96.stablehlo', 'inference_96x64.stablehlo']
    about = json.loads((output / 'export.json').read_text())
    documented = {'np': np}
    for code in CODE[-2:]:
        exec(code, documented)  # the docs' own lines
    sides = about['resizing']['short_side'], about['resizing']['long_side']
    cases = [documented['to_network'](image, *sides, 64, 96) for image in images]
    np.savez(tmp_path / 'in.npz', image=[image[0] for image, _ in cases], size=[size[0] for _, size in cases])
    arguments = [output, tmp_path / 'in.npz', tmp_path / 'out.npz']
    subprocess.run([sys.executable, '-c', RUN, *map(str, arguments)], check=True, cwd=tmp_path)
    model = sognet_jax.load(checkpoint)
    found = np.load(tmp_path / 'out.npz')
    for index, (image, (_, size)) in enumerate(zip(images, cases, strict=True)):
        limits = about['num_stuff'], about['stuff_area_limit']
        ids = documented['to_image'](found[f'arr_{index}'], size[0], image.shape[:2], *limits)
        scene = model(image)
        np.testing.assert_array_equal(ids, scene.panoptic)
        assert scene.instances


def test_an_exported_checkpoint_is_a_checkpoint(checkpoint, images, tmp_path):
    export(stored_config(checkpoint), checkpoint, tmp_path / 'exported')
    again, model = sognet_jax.load(tmp_path / 'exported'), sognet_jax.load(checkpoint)
    np.testing.assert_array_equal(again(images[0]).panoptic, model(images[0]).panoptic)
    assert again.config.to_dict() == model.config.to_dict()


def test_what_cannot_be_exported_is_refused(checkpoint, tmp_path):
    config = stored_config(checkpoint)
    with pytest.raises(ValueError, match="--platforms: 'gpu' is none of"):
        export(config, checkpoint, tmp_path / 'new', platforms=['gpu'])
    (tmp_path / 'file').write_text('')
    with pytest.raises(ValueError, match='new or an empty folder'):
        export(config, checkpoint, tmp_path)
    config.inference.method = 'heuristics'
    with pytest.raises(ValueError, match='inference.method'):
        export(config, checkpoint, tmp_path / 'new')
    assert not (tmp_path / 'new').exists()
