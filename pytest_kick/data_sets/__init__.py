"""The data sets of the two studies: from a directory that a user brings (`--kick-data`), or from the hub by `datasets`.

The package ships none of them. `source.DataSource` says where rows come from; beside it stands one module per data set, which turns
rows into examples and checks each field. The layout of the directory is described in `docs/data.md`.
"""
