"""segxai: which input voxels made a segmentation model draw this instance, and by how much.

Everything public is listed in `__init__.pyi`. Each name is imported when it is first used, so that
reading results loads no torch.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
