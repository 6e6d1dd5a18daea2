"""Configs, runs, their manifests and tracking, reports and reproduction."""
