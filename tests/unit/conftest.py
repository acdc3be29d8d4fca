"""Make modules beside the tests importable, `made_measurements` among them, from the folders below too."""
