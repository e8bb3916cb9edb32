"""Outlines and textures of the `shapes` classes."""

import cv2
import numpy as np

SUBPIXEL_BITS = 4
"""Polygon corners are rounded to 1/16 pixel, so that rounding errors of the machine do not reach the picture."""

HUES = {
    'tray': 12, 'rug': 160, 'ball': 0, 'box': 105, 'cone': 16, 'cross': 60,
    'egg': 135, 'star': 27, 'ring': 92, 'leaf': 48,
}  # fmt: skip
"""Typical hue of each thing class, in OpenCV's half degrees."""

HUE_SPREAD = 9.0
ODD_COLOR = 0.15
"""Share of instances of any hue whatsoever, so that colour alone does not name the class."""

ASPECTS = {'tray': 1.5, 'rug': 1.3, 'egg': 0.72, 'cone': 0.85}
"""Width / height of the classes that are not as wide as high."""


def outline_mask(name: str, center: np.ndarray, size: float, angle: float, canvas: tuple[int, int]) -> np.ndarray:
    """The silhouette of one object.

    Args:
        center: x, y in pixels.
        size: square root of width times height, in pixels.
        angle: rotation in radians; upright classes use a part of it.
        canvas: height and width of the result, uint8 in {0, 1}.
    """
    mask = np.zeros(canvas, np.uint8)
    for points, value in _polygons(name):
        turn = angle * (1.0 if name in ('leaf', 'star', 'cross') else 0.2)
        aspect = np.sqrt(ASPECTS.get(name, 1.0))
        points = points * np.array([aspect, 1 / aspect])
        rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        corners = center + points @ rotation.T * (size / 2)
        fixed = np.round(corners * 2**SUBPIXEL_BITS).astype(np.int32)
        cv2.fillPoly(mask, [fixed], value, shift=SUBPIXEL_BITS)
    return mask


def paint_object(image: np.ndarray, mask: np.ndarray, name: str, rng: np.random.Generator) -> None:
    """Paints one object, `[h, w]` uint8 in {0, 1}, with a soft shadow around it over a picture, `[h, w, 3]` float32 RGB
    in 0..255.
    """
    shadow = cv2.GaussianBlur(np.roll(mask, (2, 1), (0, 1)).astype(np.float32), (7, 7), 0)
    image *= 1 - 0.35 * shadow[..., None] * (mask == 0)[..., None]
    inside = mask.astype(bool)
    rows, columns = np.nonzero(inside)
    y0, x0, y1, x1 = rows.min(), columns.min(), rows.max() + 1, columns.max() + 1
    v = (rows - y0 + 0.5) / (y1 - y0) * 2 - 1
    u = (columns - x0 + 0.5) / (x1 - x0) * 2 - 1
    brightness = _texture(name, u, v, rows, columns) + rng.normal(0, 0.03, rows.size)
    edge = inside & (cv2.erode(mask, np.ones((3, 3), np.uint8), borderValue=1) == 0)
    brightness = np.where(edge[rows, columns], brightness * 0.55, brightness)
    image[rows, columns] = np.clip(_color(name, rng) * brightness[:, None], 0, 255)


def stuff_texture(name: str, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """A whole picture of one stuff class, `[h, w, 3]` float32 RGB in 0..255."""
    y, x = np.mgrid[: size[0], : size[1]] + rng.integers(0, 16, (2, 1, 1))
    noise = rng.normal(0, 1, size).astype(np.float32)
    if name == 'cloth':
        brightness = 1 + 0.09 * ((x // 2 + y // 2) % 2) + 0.03 * noise
        color = (150, 145, 185)
    elif name == 'grass':
        brightness = 1 + 0.18 * cv2.GaussianBlur(noise, (1, 7), 0)
        color = (95, 145, 80)
    elif name == 'brick':
        course = y // 8
        joint = (y % 8 == 0) | ((x + 8 * (course % 2)) % 16 == 0)
        brightness = np.where(joint, 1.25, 0.92 + 0.05 * noise)
        color = (165, 110, 90)
    else:
        brightness = 1 + 0.08 * noise
        color = (205, 190, 140)
    return brightness[..., None] * (np.array(color) * rng.uniform(0.85, 1.1))


def _polygons(name: str) -> list[tuple[np.ndarray, int]]:
    """Corners in [-1, 1]^2 and the value each polygon is filled with: 1, or 0 for a hole."""
    round_angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    circle = np.stack([np.cos(round_angles), np.sin(round_angles)], axis=-1)
    square = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], float)
    if name in ('ball', 'egg'):
        return [(circle, 1)]
    if name == 'ring':
        return [(circle, 1), (circle * 0.5, 0)]
    if name == 'tray':
        return [(np.sign(circle) * np.abs(circle) ** 0.35, 1)]
    if name == 'cone':
        return [(np.array([[0, -1], [1, 0.9], [0.7, 1], [-0.7, 1], [-1, 0.9]]), 1)]
    if name == 'cross':
        a = 0.36
        corners = [(-a, -1), (a, -1), (a, -a), (1, -a), (1, a), (a, a), (a, 1), (-a, 1), (-a, a), (-1, a), (-1, -a)]
        return [(np.array([*corners, (-a, -a)]), 1)]
    if name == 'star':
        angles = np.arange(10) * np.pi / 5 - np.pi / 2
        radius = np.where(np.arange(10) % 2, 0.48, 1.08)
        return [(np.stack([np.cos(angles), np.sin(angles)], axis=-1) * radius[:, None], 1)]
    if name == 'leaf':
        along = np.linspace(-1, 1, 20)
        upper = np.stack([along, 0.48 * (1 - along**2)], axis=-1)
        return [(np.concatenate([upper, -upper]) * 1.15, 1)]
    return [(square * 0.92, 1)]


def _texture(name: str, u: np.ndarray, v: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Brightness of the pixels of an object; `u`, `v` run from -1 to 1 over its box."""
    textures = {
        'ball': lambda: 1.15 - 0.5 * ((u + 0.35) ** 2 + (v + 0.35) ** 2),
        'egg': lambda: 1.05 - 0.45 * ((rows // 2 * 7 + columns // 2 * 13) % 5 == 0),
        'rug': lambda: 0.75 + 0.4 * ((rows // 3) % 2),
        'tray': lambda: np.where(np.maximum(np.abs(u), np.abs(v)) > 0.75, 1.15, 0.8),
        'box': lambda: np.where((np.abs(u) < 0.15) | (np.abs(v) < 0.15), 1.25, 0.85),
        'cone': lambda: 1.0 + 0.3 * (((v + 1) * 2.5).astype(int) % 2),
        'leaf': lambda: np.where((rows + columns) % 5 == 0, 0.7, 1.05),
        'ring': lambda: 1.1 - 0.3 * (v > 0),
    }
    return textures[name]() if name in textures else np.ones_like(u)


def _color(name: str, rng: np.random.Generator) -> np.ndarray:
    hue = rng.uniform(0, 180) if rng.uniform() < ODD_COLOR else HUES[name] + rng.normal(0, HUE_SPREAD)
    hsv = np.array([[[hue % 180, rng.uniform(110, 220), rng.uniform(140, 235)]]]).astype(np.uint8)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0].astype(np.float32)
