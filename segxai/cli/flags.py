"""The shell's words for options: in messages, an option is written as its flag."""

from segxai.errors import in_words

# Options whose flags are not simply their names. None has no flag.
FLAGS = {
    "class_name": "--class",
    "crop_mm": "--crop",
    "method_options": "--set",
    "min_volume_mm3": "--min-volume",
    "spacing_mm": "--spacing",
}


def flag_of(name: str) -> str:
    """Return the flag of an option."""
    return FLAGS.get(name, f"--{name.replace('_', '-')}")


def as_flags(text: str) -> str:
    """Write the options in a message as the shell takes them: `--samples 5`, `--antithetic`."""
    return in_words(text, _written)


def _written(name: str, value: str | None) -> str:
    return flag_of(name) if value in (None, "True") else f"{flag_of(name)} {value}"
