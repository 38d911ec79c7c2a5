"""Machine: the hardware and software that the figures were measured on."""

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

PACKAGES = ("segxai", "torch", "monai", "captum", "numpy", "grad-cam", "torchcam")


def machine(device: str = "cpu") -> dict[str, str]:
    """Describe processor, threads, GPU if it was used, versions and date."""
    found = {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": processor(),
        "cores": str(os.cpu_count()),
        "threads": str(torch.get_num_threads()),
        # Other programs on the machine make every figure worse: a reader should know.
        "load at the end": f"{os.getloadavg()[0]:.1f}",
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }
    if torch.device(device).type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(device)
        found["cuda"] = str(torch.version.cuda)
    return found | {name: installed(name) for name in PACKAGES}


def processor() -> str:
    """Find the processor's own name, or what is known about it."""
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text().splitlines() if listing.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def installed(name: str) -> str:
    """Find the installed version of a package."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
