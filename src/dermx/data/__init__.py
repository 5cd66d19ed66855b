"""Files on disk to cases: readers per source, the checked table, parts and folds."""
