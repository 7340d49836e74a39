"""The attacks, by their kinds: one file for each."""

from . import admin, bodies, connections, crowd, frames, identity, mutations, smuggling, store

KINDS = (bodies, connections, frames, smuggling, mutations, identity, admin, crowd, store)
ATTACKS = [attack for kind in KINDS for attack in kind.ATTACKS]
