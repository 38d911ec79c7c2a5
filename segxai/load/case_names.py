"""Names of cases: from the entities of BIDS in a file's name, or else the file's name itself."""

import re

ENTITY = re.compile(r"(?:^|_)((?:sub|ses)-[A-Za-z0-9]+)(?=[_.]|$)")


def case_names(file_name: str) -> tuple[str, str, str]:
    """Name a case, its patient and its session after the name of one of its files.

    >>> from segxai.load.case_names import case_names
    >>> case_names("sub-07_ses-2_FLAIR.nii.gz")
    ('sub-07_ses-2', 'sub-07', 'ses-2')
    >>> case_names("flair.nii.gz")
    ('flair', '', '')
    """
    found = {entity[:3]: entity for entity in reversed(ENTITY.findall(file_name))}
    if "sub" not in found:
        return file_name.split(".")[0] or file_name, "", ""
    patient, session = found["sub"], found.get("ses", "")
    return "_".join(filter(None, (patient, session))), patient, session
