"""Words for one thing, as data sets name their categories."""

from __future__ import annotations

from typing import Final

SYNONYMS: Final = tuple(
    line.split()
    for line in """
    person people human
    child kid
    baby infant
    car automobile
    airplane aeroplane plane
    motorcycle motorbike
    bicycle bike
    truck lorry
    trafficlight trafficsignal stoplight
    licenseplate licenceplate numberplate
    tire tyre
    helmet hardhat
    mask facemask
    sofa couch
    tv television tvmonitor
    cellphone mobilephone
    refrigerator fridge
    trashcan garbagecan garbagebin dustbin
    handbag purse
    donut doughnut
    rabbit bunny
    cow cattle
    """.strip().splitlines()
)
"""Groups of words in one case, without spaces and punctuation."""
