"""Stored datasets: building, versions, splits, pages, downloads.

A stored dataset never changes; every edit makes a new version.
"""

from trainer_backend.data.store.build import label
from trainer_backend.data.store.dataset import StoredDataset, list_datasets, open_dataset
from trainer_backend.data.store.downloads import (
    download_dataset,
    download_folder,
    safe_cell,
    save_rows,
)
from trainer_backend.data.store.held_out import with_held_out
from trainer_backend.data.store.length_report import LengthReport, read_report, stored_report
from trainer_backend.data.store.lookup import resolve_data
from trainer_backend.data.store.mixes import mix_datasets
from trainer_backend.data.store.uploads import (
    create_dataset,
    create_from_hub,
    create_from_rows,
    create_from_sample,
    remap_dataset,
)
from trainer_backend.data.store.versions import apply_fixes, edit_rows
