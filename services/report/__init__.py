"""The report of a run: one HTML file that a scientist can send to a colleague.

Presentation only: every figure was measured by a stage and is read from its manifest or its objects.
The one arithmetic here is binning for histograms and averaging of images down to the page.
"""
