"""The profiles: `embedded` runs everything on one machine."""
