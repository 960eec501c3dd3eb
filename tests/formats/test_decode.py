"""Decoding gives RGB, the same pixels as Pillow's, and fills only the border of a warp."""

import io
import struct
import tracemalloc
import zlib

import cv2
import numpy as np
import pillow_heif
import pytest
from PIL import Image, ImageOps

from facelib.errors import BadData, UserError
from facelib.formats.decode import (
    border_mask,
    decode,
    encode_jpeg,
    is_plain_jpeg,
    replicate_border,
    resize,
)
from facelib.prepare.align import align


def picture(height: int = 60, width: int = 60, seed: int = 0) -> np.ndarray:
    """Smooth random colours, nowhere dark: uint8 (height, width, 3)."""
    noise = np.random.default_rng(seed).integers(60, 256, (6, 6, 3), dtype=np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_LINEAR)


def encode(image: np.ndarray, kind: str, mode: str = "RGB", **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def test_red_is_the_first_channel():
    # Mutation: cv2.imdecode without the swap from BGR.
    red = np.full((16, 16, 3), (220, 20, 20), np.uint8)
    for content in (encode(red, "JPEG"), encode(red, "PNG"), encode_jpeg(red)):
        assert decode(content)[8, 8, 0] > 200 > 40 > decode(content)[8, 8, 2]


@pytest.mark.parametrize(
    ("kind", "mode", "options"),
    [
        ("JPEG", "RGB", {"quality": 95}),
        ("JPEG", "RGB", {"quality": 40, "subsampling": 0}),
        ("JPEG", "RGB", {"progressive": True}),
        ("JPEG", "L", {}),
        ("PNG", "RGB", {}),
        ("PNG", "RGBA", {}),
        ("PNG", "P", {}),
        ("PPM", "L", {}),
        ("WEBP", "RGB", {"quality": 80}),
    ],
)
def test_every_format_decodes_as_pillow_does(kind: str, mode: str, options: dict):
    # The decoders are both libjpeg-turbo's accurate one: the difference measured is 0.
    content = encode(picture(45, 61), kind, mode, **options)
    expected = np.array(Image.open(io.BytesIO(content)).convert("RGB"))
    assert np.array_equal(decode(content), expected)


def test_a_cmyk_jpeg_differs_from_pillow_by_one_level_at_most():
    # Mutation: passing CMYK on as if it were RGB.
    content = encode(picture(), "JPEG", "CMYK")
    expected = np.array(Image.open(io.BytesIO(content)).convert("RGB"))
    assert np.abs(decode(content).astype(int) - expected).max() <= 1


@pytest.mark.slow
def test_real_faces_decode_as_pillow_does(real_faces):
    # Measured over all 13,233 LFW images and 280 CFP originals, mxnet's decoder too: 0.
    for path in sorted((real_faces / "cfp_raw_sample" / "Images").glob("*/*/*.jpg")):
        expected = np.array(Image.open(path).convert("RGB"))
        assert np.array_equal(decode(path.read_bytes()), expected), path


@pytest.mark.parametrize(
    "content", [b"", b"GIF", b"\xff\xd8\xff\xe0 short", encode(picture(), "JPEG")[:-300]]
)
def test_what_is_no_image_is_refused_with_its_first_bytes(content: bytes):
    # Mutation: Pillow's tolerance of truncated files, or a grey picture in their place.
    with pytest.raises(BadData, match=content[:3].hex(" ") or "nothing"):
        decode(content)


def test_shrinking_averages_areas_and_growing_interpolates():
    # Mutation: nearest or bilinear sampling, which lets single pixels through when shrinking.
    board = np.zeros((8, 8, 3), np.uint8)
    board[::2, ::2] = board[1::2, 1::2] = 200
    assert np.unique(resize(board, 4)).tolist() == [100]
    assert resize(picture(20, 30), 112).shape == (112, 112, 3)
    assert np.array_equal(resize(board, 8), board)


def test_decoding_at_a_smaller_size_is_near_and_only_where_it_is_asked_for():
    # Mutation: shrinking below what is wanted and growing again; shrinking by default, which moves
    # the pixels of finished runs; shrinking before the border is found.
    jpeg = encode_jpeg(picture(112, 112))
    for size in (30, 48, 56):
        full = decode(jpeg, size).astype(int)
        gap = np.abs(decode(jpeg, size, scale=True) - full)
        assert 0 < gap.mean() < 3 and np.array_equal(full, resize(decode(jpeg), size))
    for size in (112, 150):
        assert np.array_equal(decode(jpeg, size, scale=True), decode(jpeg, size))
    filled = decode(jpeg, 48, fill_border="replicate")
    assert np.array_equal(decode(jpeg, 48, fill_border="replicate", scale=True), filled)


def rotated_in_black(angle: float, content: np.ndarray) -> np.ndarray:
    matrix = cv2.getRotationMatrix2D((30, 30), angle, 0.7)
    return cv2.warpAffine(content, matrix, (60, 60))


@pytest.mark.parametrize("angle", [0, 12, 45])
def test_a_border_is_filled_by_the_nearest_pixels_and_the_rest_stays(angle: float):
    # Mutation: filling by the mean colour, or touching the inside of the picture.
    warped = decode(encode_jpeg(rotated_in_black(angle, picture())))
    inside = rotated_in_black(angle, np.full((60, 60, 3), 255, np.uint8)).min(axis=2) == 255
    filled = replicate_border(warped)
    core = cv2.erode(inside.astype(np.uint8), np.ones((9, 9))).astype(bool)
    assert np.array_equal(filled[core], warped[core])
    assert filled.max(axis=2).min() > 30  # nothing black is left
    assert np.array_equal(filled, replicate_border(warped))


def test_dark_hair_in_the_picture_is_no_border():
    # Mutation: taking every black pixel, or every dent in the outline, for border.
    content = picture()
    content[:25, 15:45] = 0
    warped = rotated_in_black(10, content)
    hair = rotated_in_black(10, np.where(content == 0, 255, 0).astype(np.uint8)).min(axis=2) == 255
    assert (border_mask(warped) & hair).sum() < 0.05 * hair.sum()


def test_images_without_a_border_or_all_border_stay_as_they_are():
    for image in (picture(), np.zeros((20, 20, 3), np.uint8)):
        assert replicate_border(image) is image
    lake = picture()
    lake[20:40, 20:40] = 0  # black, but not joined to the edge
    assert not border_mask(lake).any()


def test_filling_comes_close_to_a_warp_that_never_had_the_border():
    # Mutation: a border filled from the darkened rim of the picture.
    points = np.array([[20, 20], [45, 20], [32, 35], [24, 48], [42, 48]], float)
    black, replicated = (align(picture(), points, 112, border=b) for b in ("black", "replicate"))
    outside = border_mask(black)
    filled = decode(encode_jpeg(black), fill_border="replicate")
    assert outside.mean() > 0.1
    assert np.abs(filled.astype(int) - replicated)[outside].mean() < 12


def test_an_unknown_fill_is_refused():
    with pytest.raises(UserError, match="fill_border='blur', allowed are none, replicate"):
        decode(encode_jpeg(picture()), fill_border="blur")


def test_the_decoder_agrees_with_torchvision_s():
    # Mutation: another chroma upsampling (dct or fancy), which training would silently see.
    import torch
    from torchvision.io import ImageReadMode, decode_jpeg

    for quality, subsampling in ((95, 2), (95, 0), (60, 2)):
        content = encode(picture(50, 61), "JPEG", quality=quality, subsampling=subsampling)
        raw = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        theirs = decode_jpeg(raw, mode=ImageReadMode.RGB).permute(1, 2, 0).numpy()
        assert np.abs(decode(content).astype(int) - theirs).max() <= 1


def claims_to_be_huge(kind: str) -> bytes:
    """A small picture whose header says 65,000 × 65,000 pixels."""
    content = bytearray(encode(picture(16, 16), kind))
    if kind == "PNG":
        content[16:24] = struct.pack(">II", 65_000, 65_000)
        content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    elif kind == "JPEG":
        at = content.index(b"\xff\xc0") + 5
        content[at : at + 4] = struct.pack(">HH", 65_000, 65_000)
    else:
        content = content.replace(b"16 16", b"65000 65000")
    return bytes(content)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "PPM"])
@pytest.mark.parametrize("size", [None, 48])
def test_a_picture_that_claims_to_be_huge_is_refused_by_its_header(kind: str, size: int | None):
    # Mutation: check_size after decoding, or for JPEG alone.
    tracemalloc.start()
    with pytest.raises(BadData, match="65000×65000 pixels, allowed are 67,108,864"):
        decode(claims_to_be_huge(kind), size, scale=True)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_formats_that_start_other_programs_are_no_images():
    # Mutation: Image.open without `formats`: Ghostscript runs what an EPS file says.
    with pytest.raises(BadData, match="no readable image"):
        decode(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")


def stored(image: np.ndarray, form: str, **options) -> bytes:
    data = io.BytesIO()
    Image.fromarray(image).save(data, form, **options)
    return data.getvalue()


def corners() -> np.ndarray:
    """A picture (48, 64, 3) whose four corners differ."""
    image = np.full((48, 64, 3), 90, np.uint8)
    image[:16, :16], image[:16, -16:], image[-16:, :16] = (250, 0, 0), (0, 250, 0), (0, 0, 250)
    return image


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_upright_as_its_exif_says(form: str, orientation: int):
    # Mutation: EXIF ignored, or a turn the wrong way round.
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = stored(corners(), form, exif=exif)
    with Image.open(io.BytesIO(data)) as picture:
        wanted = np.array(ImageOps.exif_transpose(picture).convert("RGB"))
    found = decode(data)
    assert found.shape == wanted.shape == ((48, 64, 3) if orientation < 5 else (64, 48, 3))
    assert np.abs(found.astype(int) - wanted).max() <= 8
    assert is_plain_jpeg(data) == (form == "JPEG" and orientation == 1)


@pytest.mark.parametrize(
    "block", [b"", b"MM\0*\xff\xff\xff\xff", b"no TIFF at all", b"II*\0\x08\0\0\0\xff"]
)
def test_a_broken_exif_block_leaves_the_picture_readable(block: bytes):
    # Mutation: an error of the block taken for one of the picture.
    plain = stored(corners(), "JPEG")
    body = b"Exif\0\0" + block
    data = plain[:2] + b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body + plain[2:]
    assert np.array_equal(decode(data), decode(plain))


def test_exif_behind_other_blocks_counts_too():
    # Mutation: EXIF looked for in the first bytes alone.
    exif = Image.Exif()
    exif[0x0112] = 6
    data = stored(corners(), "JPEG", exif=exif)
    note = b"\xff\xfe" + (60002).to_bytes(2, "big") + bytes(60000)
    assert np.array_equal(decode(data[:2] + note + data[2:]), decode(data))
    assert decode(data).shape == (64, 48, 3)


def test_an_unknown_format_is_said_without_an_address():
    with pytest.raises(BadData, match="starting with 68 65 .* not known here"):
        decode(b"hello, no picture")


@pytest.mark.parametrize(
    ("form", "kind", "low", "high"),
    [("PNG", np.uint16, 300, 16000), ("TIFF", np.float32, -0.5, 2.0), ("TIFF", np.int32, -9, 9)],
)
def test_grey_of_more_than_8_bits_is_scaled_by_its_range(form: str, kind: type, low, high):
    # Mutation: clipped at 255 (white), or truncated (black).
    ramp = np.linspace(low, high, 256).astype(kind).reshape(16, 16)
    grey = decode(stored(ramp, form))
    wanted = (ramp.astype(float) - ramp.min()) / (float(ramp.max()) - float(ramp.min())) * 255
    assert np.abs(grey[..., 0] - wanted).max() <= 0.5 and (grey[..., 0] == grey[..., 2]).all()


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("form", [".png", ".tiff", ".ppm"])
def test_colours_of_16_bits_are_scaled_by_their_range_too(form: str, orientation: int):
    # Mutation: the upper 8 bits alone, which are black where a camera fills 10 of 16.
    dark = corners().astype(np.uint16) * 4
    data = cv2.imencode(form, np.ascontiguousarray(dark[..., ::-1]))[1].tobytes()
    if form == ".png" and orientation == 6:
        exif = Image.Exif()
        exif[0x0112] = 6
        block = b"eXIf" + exif.tobytes()[6:]
        block = struct.pack(">I", len(block) - 4) + block + struct.pack(">I", zlib.crc32(block))
        data, dark = data[:33] + block + data[33:], np.rot90(dark, -1)
    assert np.abs(decode(data) - dark / dark.max() * 255).max() <= 0.5


def test_an_exif_block_is_found_wherever_it_lies_and_a_broken_one_is_passed_over():
    # Mutation: EXIF sought at the start alone; a picture refused for what lies beside it.
    exif = Image.Exif()
    exif[0x0112] = 6
    data = stored(corners(), "JPEG", exif=exif)
    colours = b"\xff\xe2" + struct.pack(">H", 20_002) + bytes(20_000)
    late = data[:2] + colours + data[2:]
    assert np.array_equal(decode(late), decode(data)) and decode(late).shape == (64, 48, 3)
    broken = data.replace(b"Exif\0\0II*\0", b"Exif\0\0ZZ*\0").replace(
        b"Exif\0\0MM\0*", b"Exif\0\0ZZ\0*"
    )
    assert broken != data and decode(broken).shape == (48, 64, 3)


def test_pixels_that_are_no_number_are_refused():
    with pytest.raises(BadData, match="not all finite"):
        decode(stored(np.full((4, 4), np.nan, np.float32), "TIFF"))


def test_pictures_of_phones_and_of_several_frames_are_read():
    image = corners()
    heif = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(image)).save(heif, quality=95)
    for data in (heif.getvalue(), stored(image, "AVIF", quality=95), stored(image, "GIF")):
        assert np.abs(decode(data).astype(int) - image)[4:-4, 4:-4].mean() < 6
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(image)).save(turned, quality=95, exif=exif.tobytes())
    untold = io.BytesIO()  # Pillow writes no turn into the boxes of such a file
    Image.fromarray(image).save(untold, "HEIF", quality=95, exif=exif)
    mif1 = stored(image, "AVIF", quality=95, exif=exif).replace(b"ftypavif", b"ftypmif1", 1)
    assert b"irot" not in untold.getvalue() and b"irot" in turned.getvalue()
    for data in (turned.getvalue(), untold.getvalue(), mif1):
        found = decode(data).astype(int)
        assert np.abs(found - np.rot90(image, -1))[4:-4, 4:-4].mean() < 6


def test_a_picture_that_is_not_square_is_padded_and_not_stretched():
    # Mutation: resized to a square, so that faces are narrower than they are.
    image = decode(stored(np.full((40, 20, 3), 200, np.uint8), "PNG"), 40)
    assert image.shape == (40, 40, 3) and (image == 200).all()
    tall = np.zeros((40, 20, 3), np.uint8)
    tall[10:30, 5:15] = 255
    found = decode(stored(tall, "PNG"), 40)[..., 0] > 128
    assert found.any(0).sum() == 10 and found.any(1).sum() == 20
