from enum import Enum

from torchvision import __getattr__ as __getattr__

InterpolationMode = Enum("InterpolationMode", "NEAREST NEAREST_EXACT BILINEAR BICUBIC BOX HAMMING LANCZOS")
