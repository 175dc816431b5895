"""What the numbers in a TIFF's tags stand for (TIFF 6.0, its supplements, and libtiff's tiff.h)."""

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, SEPARATED, YCBCR = 0, 1, 2, 3, 5, 6
PHOTOMETRICS = {
    WHITE_IS_ZERO: "WhiteIsZero", BLACK_IS_ZERO: "BlackIsZero", RGB: "RGB", PALETTE: "palette",
    4: "transparency mask", SEPARATED: "CMYK", YCBCR: "YCbCr", 8: "CIE L*a*b*", 9: "ICC L*a*b*",
    10: "ITU L*a*b*", 32803: "colour filter array", 32844: "LogL", 32845: "LogLuv",
    34892: "linear raw", 51177: "depth map",
}  # fmt: skip
COLOURS = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, PALETTE: 1, SEPARATED: 4, YCBCR: 3}

NONE, JPEG, LZMA = 1, 7, 34925
COMPRESSIONS = {
    NONE: "none", 2: "CCITT RLE", 3: "CCITT group 3", 4: "CCITT group 4", 5: "LZW",
    6: "old-style JPEG", JPEG: "JPEG", 8: "Deflate", 9: "JBIG", 10: "JBIG", 32771: "CCITT RLE-W",
    32773: "PackBits", 32809: "ThunderScan", 32908: "PixarFilm", 32909: "PixarLog",
    32946: "Deflate", 33003: "JPEG 2000", 33004: "JPEG 2000", 33005: "JPEG 2000",
    34661: "JBIG", 34676: "SGI Log", 34712: "JPEG 2000", 34887: "LERC", 34892: "lossy JPEG",
    LZMA: "LZMA", 34926: "Zstandard", 50000: "Zstandard", 50001: "WebP", 50002: "JPEG XL",
    22610: "JPEG XR", 34934: "JPEG XR", 52546: "JPEG XL",
}  # fmt: skip
BILEVEL = (2, 3, 4)
PREDICTED = (5, 8, 32946, LZMA, 34926, 50000)
READ = (NONE, JPEG, 32773, *BILEVEL, *PREDICTED)


def compression_name(number: int) -> str:
    """A compression's name."""
    return COMPRESSIONS.get(number, f"number {number}")
