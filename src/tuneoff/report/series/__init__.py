"""The report of a series: what its members say together, beside a report of each.

    schema.py    SeriesReport, which the renderers read
    builder.py   makes it of the members' results
    wording.py   the answer in sentences
    tables.py    its tables as texts
    charts.py    its charts
    pages.py     index.html and report.md
    terminal.py  what `tuneoff report` prints
    files.py     writes all of it
    advice.py    `tuneoff recommend` of a series

What is told of one study is told by the rest of `tuneoff.report`: a series over base models is shown as one study of
all arms of all bases.
"""
