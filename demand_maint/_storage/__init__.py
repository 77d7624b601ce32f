"""Every byte on disk goes through this folder."""
