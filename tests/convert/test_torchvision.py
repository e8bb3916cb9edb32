"""torchvision's own ResNet-50, with random weights and statistics, against ours with the weights converted."""

import jax
import numpy as np
import pytest
import safetensors.numpy

from sognet_jax.configs import coco_r50
from sognet_jax.convert.conversion import convert, recognise
from sognet_jax.convert.sources import read_arrays
from sognet_jax.models.resnet import ResNet
from tests.support.golden_files import near, nhwc
from tests.support.state_dicts import template

torch = pytest.importorskip('torch', reason='torch is not installed')
models = pytest.importorskip('torchvision.models', reason='torchvision is not installed')


@pytest.fixture(scope='module')
def network():
    torch.manual_seed(0)
    network = models.resnet50(weights=None).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.weight, 1, 0.2)
            torch.nn.init.normal_(module.bias, 0, 0.2)
            torch.nn.init.normal_(module.running_mean, 0, 0.2)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    return network


@pytest.fixture(scope='module')
def image():
    """Normalised RGB in torchvision's layout."""
    return np.random.default_rng(0).normal(size=(2, 3, 96, 128)).astype(np.float32)


@pytest.fixture(scope='module')
def stages(network, image):
    with torch.no_grad():
        x = network.maxpool(network.relu(network.bn1(network.conv1(torch.tensor(image)))))
        outputs = []
        for layer in (network.layer1, network.layer2, network.layer3, network.layer4):
            x = layer(x)
            outputs.append(x.numpy())
    return outputs


def save(network, path, form):
    state = network.state_dict()
    if form == 'safetensors':
        safetensors.numpy.save_file({name: tensor.numpy() for name, tensor in state.items()}, path)
    else:
        torch.save({'state_dict': {f'module.{name}': tensor for name, tensor in state.items()}, 'epoch': 90}, path)


@pytest.mark.parametrize('form', ['pth', 'safetensors'])
def test_stages_are_torchvision_s(network, image, stages, form, tmp_path):
    save(network, tmp_path / f'resnet50.{form}', form)
    config = coco_r50.get_config()
    config.model.backbone.strided_conv = 'conv2'
    source = recognise(read_arrays(tmp_path / f'resnet50.{form}'))
    assert source.kind == 'torchvision'
    variables = convert(source, template(config))
    backbone = {collection: tree['resnet'] for collection, tree in variables.items()}
    outputs = jax.jit(ResNet(**config.model.backbone).apply)(backbone, nhwc(image))
    for ours, theirs in zip(outputs, stages, strict=True):
        near(ours, np.moveaxis(theirs, 1, -1), tolerance=1e-4)
