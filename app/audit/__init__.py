"""Audits: what an attacker can show about a mechanism, beside what is claimed for it."""
