"""Statistics of lesions that are nested in scans and patients. No torch.

A pooled comparison asks whether a lesion of one group has the larger value, and takes patients as
the units that were drawn. A comparison within patients stays right where the share of a group
follows a patient's level. Which methods hold in simulation is measured in
`benchmarks/clusters.py`.
"""
