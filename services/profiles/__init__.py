"""The profiles: `embedded` runs everything on one machine, `distributed` on servers of its own."""
