"""The rule language: Sigma files, checked and turned into plain values and single-event predicates.

    load.py          files -> RuleSet and every fault with its position
    documents.py     where things stand in a file; the list that faults are collected in
    heads.py         what detections and correlations have in common
    booleans.py      conditions written as text: and, or, not, 1 of
    detections.py    a detection document -> a tree of field tests (values and modifiers by pySigma)
    correlations.py  a correlation document -> CorrelationRule
    extensions.py    the x-correlator block
    overlay.py       a site's changes: switched off, other thresholds, lists
    logsource.py     what `logsource` means for our events: one table
    fields.py        a field name -> its value in an event; group keys
    predicates.py    a condition tree -> test(event), explain(event), anchors for an index
    where.py         conditions between events
    check.py         which parts are portable; a rule in plain words
    testing.py       events of in-file tests

Nothing is re-exported here: the hot modules (fields, predicates, where) must load without pySigma.
"""
