"""The report: an index and a page for each set, each a file that can be sent to a colleague; or a PDF.

Presentation only: every figure was measured by a stage and is read from its manifest or its objects.
The one arithmetic here is binning for histograms with the Gaussian over them, averaging of images down to
the page, and sums over the exposures of a set.
"""
