"""LUNA16's own file formats: MetaImage volumes and CSV tables of places."""
